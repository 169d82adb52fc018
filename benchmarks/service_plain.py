"""What ``service.py`` is held against: the handler of ten lines that anybody would write first.

    python benchmarks/service_plain.py INDEX PORT

FastAPI, Sentence-Transformers and faiss, as their introductions show them, over the rows and vectors of an index.
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
    """What is asked."""

    task: str
    input: str
    k: int


@app.post("/v1/retrieve")
def retrieve(query: Query) -> dict:
    """Return the nearest rows."""
    text = f"{tasks[query.task].instruction}\nText: {query.input}"
    vector = model.encode([text], normalize_embeddings=True)
    (similarities,), (places,) = indexes[query.task].search(vector, query.k)
    found = [rows[query.task][place] for place in places]
    return {
        "demonstrations": [
            {"id": row.id, "similarity": float(similarity), "input": row.input, "target": row.target}
            for row, similarity in zip(found, similarities, strict=True)
        ]
    }


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
