from .routes import probes as probes, router as router
from .service import ShardsService as ShardsService
