"use strict";

const byId = (id) => document.getElementById(id);

fetch("/inspect", { headers: { accept: "application/json" } })
  .then((response) => response.json())
  .then((seen) => {
    const head = [`${seen.method} ${seen.target} ${seen.version}`, ...seen.headers.map(([name, value]) => `${name}: ${value}`)];
    byId("inspect").textContent = head.join("\n");
  })
  .catch((error) => { byId("inspect").textContent = String(error); });

const events = new EventSource("/events?count=5&interval=200");
events.addEventListener("tick", (event) => {
  const item = document.createElement("li");
  item.textContent = event.data;
  byId("events").append(item);
});
events.addEventListener("end", () => events.close());

const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/ws`);
socket.addEventListener("open", () => socket.send("hello, gateway"));
socket.addEventListener("message", (event) => {
  byId("websocket").textContent = event.data;
  socket.close();
});
socket.addEventListener("error", () => { byId("websocket").textContent = "failed"; });
