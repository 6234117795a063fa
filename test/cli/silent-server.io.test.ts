/** How a command ends whose server accepts connections and never answers, as a stopped process does. */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, test } from "vitest";
import { connect } from "../../src/client/index.ts";
import { CommandProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

async function silentServer() {
  const server = createServer((socket) => socket.resume().on("error", () => {})).listen(0, "127.0.0.1");
  await once(server, "listening");
  const count = () => new Promise<number>((resolve) => server.getConnections((_error, connections) => resolve(connections)));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    count,
    [Symbol.asyncDispose]: async () => void server.close(),
  };
}

test.each([
  { over: "TLS", flags: ["--tls"], command: ["discovery", "lag"] },
  { over: "TLS", flags: ["--tls"], command: ["discovery", "watch"] },
  { over: "plaintext", flags: [], command: ["discovery", "lag"] },
])("$command over $over ends after its time limit", async ({ flags, command }) => {
  await using server = await silentServer();
  await using process = new CommandProcess([...command, "--server", server.address, "--timeout", "300ms", ...flags]);
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
