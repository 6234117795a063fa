/** How a command ends whose server never answers, as a stopped process does not. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { CommandProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

/** Accepts connections and sends nothing. */
async function silentServer() {
  const server = createServer((socket) => socket.resume().on("error", () => {})).listen(0, "127.0.0.1");
  await once(server, "listening");
  const count = () => new Promise<number>((resolve) => server.getConnections((_error, connections) => resolve(connections)));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { address, count, [Symbol.asyncDispose]: async () => void server.close() };
}

/** A blocked process whose queue of connections is full, so that the kernel ignores further ones. */
async function fullServer() {
  const work = `const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
    process.stdout.write(String(server.address().port));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });`;
  const child = spawn(process.execPath, ["--eval", work], { stdio: ["ignore", "pipe", "inherit"] });
  const [port] = (await once(child.stdout, "data")) as [Buffer];
  const waiting = Array.from({ length: 4 }, () => connectTcp(Number(port), "127.0.0.1").on("error", () => {}));
  const end = () => {
    for (const socket of waiting) socket.destroy();
    child.kill("SIGKILL");
  };
  return { address: `127.0.0.1:${Number(port)}`, [Symbol.asyncDispose]: async () => end() };
}

test.each([
  { server: silentServer, over: "TLS", flags: ["--tls"], command: "lag" },
  { server: silentServer, over: "TLS", flags: ["--tls"], command: "watch" },
  { server: silentServer, over: "plaintext", flags: [], command: "lag" },
  { server: fullServer, over: "plaintext", flags: [], command: "lag" },
])("discovery $command over $over of $server.name ends after its time limit", async ({ server: start, flags, command }) => {
  await using server = await start();
  await using process = new CommandProcess(["discovery", command, "--server", server.address, "--timeout", "300ms", ...flags]);
  const late = setTimeout(() => process.kill("SIGKILL"), 15_000);
  const finished = await process.finished();
  clearTimeout(late);
  expect(finished.exit).toBe(3);
  expect(finished.stderr).toContain(`error: cannot reach ${server.address}: no answer within 300ms`);
});

test("a closed client closes the connection whose TLS handshake got no answer", async () => {
  await using server = await silentServer();
  const client = connect({ servers: [server.address], findServers: false, timeoutMs: 300, tls: {} });
  await expect(client.discovery.serverInfo({})).rejects.toThrow("no answer within 300ms");
  client.close();
  await until("the connection is closed", async () => (await server.count()) === 0, 5000);
});
