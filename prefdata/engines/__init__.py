"""Models behind one method: engines, the client that stands before them, and the cache of what they answered."""

from prefdata.engines.base import Answer, Capability, Engine, Price, Reply, Request, RequestError
from prefdata.engines.budget import Budget, Usage
from prefdata.engines.cache import RequestCache
from prefdata.engines.client import Client, call_id_of, revised
from prefdata.engines.embedder import EmbedderEngine
from prefdata.engines.errors import UnreachableError
from prefdata.engines.local import TransformersEngine
from prefdata.engines.openai_http import OpenAIEngine
from prefdata.engines.registry import ENGINES, BaseEngine, EngineConfig, engine, engine_from_config
from prefdata.engines.reward_model import RewardModelEngine
from prefdata.engines.scripted import ScriptedEngine
from prefdata.engines.vllm_local import VLLMEngine

__all__ = [
    "ENGINES",
    "Answer",
    "BaseEngine",
    "Budget",
    "Capability",
    "Client",
    "EmbedderEngine",
    "Engine",
    "EngineConfig",
    "OpenAIEngine",
    "Price",
    "Reply",
    "Request",
    "RequestCache",
    "RequestError",
    "RewardModelEngine",
    "ScriptedEngine",
    "TransformersEngine",
    "UnreachableError",
    "Usage",
    "VLLMEngine",
    "call_id_of",
    "engine",
    "engine_from_config",
    "revised",
]
