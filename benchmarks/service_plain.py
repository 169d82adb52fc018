"""The baseline of ``service.py``: the obvious handler in ten lines.

    python benchmarks/service_plain.py INDEX PORT

FastAPI, Sentence-Transformers and faiss, as in their introductions, over the rows and vectors of an index.
"""

import sys
from pathlib import Path

import faiss
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

from udr.models import locate
from udr.store import open_version

version = open_version(Path(sys.argv[1]))
model = SentenceTransformer(str(locate(version.model)), device="cpu")
tasks = {name: partition.task for name, partition in version.manifest.partitions.items()}
rows = {name: list(version.demonstrations().every(name)) for name in tasks}
indexes = {name: faiss.IndexFlatIP(model.get_embedding_dimension()) for name in tasks}
for name, index in indexes.items():
    index.add(version.vectors(name))
app = FastAPI()


class Query(BaseModel):
    """The request."""

    task: str
    input: str
    k: int


@app.post("/v1/retrieve")
def retrieve(query: Query) -> dict:
    """Return the nearest rows."""
    text = f"{tasks[query.task].instruction}\nText: {query.input}"
    vector = model.encode([text], normalize_embeddings=True)
    (similarities,), (positions,) = indexes[query.task].search(vector, query.k)
    nearest = [rows[query.task][position] for position in positions]
    return {
        "demonstrations": [
            {"id": row.id, "similarity": float(similarity), "input": row.input, "target": row.target}
            for row, similarity in zip(nearest, similarities, strict=True)
        ]
    }


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
