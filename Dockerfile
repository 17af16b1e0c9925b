# lifelora's live service: docs/service.md. Build it where this file is: docker build -t lifelora .
FROM python:3.12.12-slim-bookworm

RUN useradd --create-home --uid 10001 lifelora
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve]'

USER lifelora
ENV PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["lifelora"]
CMD ["serve", "/runs/current", "--host", "0.0.0.0", "--keys", "/run/secrets/keys.toml", "--store", "/data/events.db"]
