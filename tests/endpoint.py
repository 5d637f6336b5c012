"""A server that speaks OpenAI's protocol over real HTTP, and answers as a test has it."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

from models import (
    ROLES,
    Prompt,
    Queued,
    Request,
    Sampling,
)

KEY = "sk-a-secret-that-nobody-sees"


class Speaks(BaseHTTPRequestHandler):
    """Answers as its server's `say` tells it to, and keeps the requests."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body, self.headers.get("Authorization")))
        status, lines, *headers = self.server.say(self.path, body)
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.end_headers()
        try:
            for line in lines:
                self.wfile.write(line if isinstance(line, bytes) else line.encode())
                self.wfile.flush()
        except OSError:
            self.server.gone.set()

    def log_message(self, *parts) -> None:
        """Stay quiet."""


def event_line(chat: bool, text: str, ended: str | None = None) -> str:
    choice = {"delta": {"content": text}} if chat else {"text": text}
    return f"data: {json.dumps({'choices': [{**choice, 'finish_reason': ended}]})}\n\n"


def says(*texts: str, ended: str = "stop"):
    def say(path: str, body: dict):
        chat = "chat" in path
        return 200, [
            *(event_line(chat, text) for text in texts),
            event_line(chat, "", ended),
            "data: [DONE]\n\n",
        ]

    return say


JOKE = Prompt("Tell me a joke")


def events_by_role(backend, prompt=JOKE, **settings):
    stream = backend.stream(Request(prompt, Sampling(8), **settings))
    events = [event for event in stream if not isinstance(event, Queued)]
    return {role: [event for event in events if event.role == role] for role in ROLES}


def older(prompt: str, echo: bool) -> dict:
    """Log-probabilities as vLLM tells them: of a prompt's words, and of the one that follows."""
    words = [word if n == 0 else f" {word}" for n, word in enumerate(prompt.split(" "))]
    tops = [{word: -0.5, " other": -2.0} for word in [*words, " next"]]
    nats = [-0.5] * len(tops)
    whole = {
        "tokens": ["<bos>", *words, " next"],
        "token_logprobs": [None, *nats],
        "top_logprobs": [None, *tops],
    }
    return whole if echo else {name: values[-1:] for name, values in whole.items()}


def tells(echoes: bool, chats: bool = True):
    """A server that tells log-probabilities; some do not echo, some refuse on chat routes."""

    def say(path: str, body: dict):
        if "chat" in path:
            top = {"top_logprobs": [{"token": "Why", "logprob": -0.25, "bytes": None}]}
            logprobs = {"content": [{"token": "Why", "logprob": -0.25, **top}]} if chats else None
        elif body.get("echo") and not echoes:
            return 400, ['{"error": "Only no echo is supported"}']
        else:
            logprobs = older(body["prompt"], bool(body.get("echo")))
        return 200, [json.dumps({"choices": [{"text": "", "logprobs": logprobs}]})]

    return say


def one_choice(**logprobs) -> dict:
    return {"choices": [{"logprobs": logprobs}]}
