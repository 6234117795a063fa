/** Ten thousand idle connections for DNS over TCP at a real node: they are closed above the bound, others are answered all along, and memory stays flat. */
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { expect, test } from "vitest";
import { DNS_LIMITS } from "../../src/dns/server/server.io.ts";
import { askOnce } from "../fakes/dns-processes.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const NAME = "web.svc.market.waymark";
const CONNECTIONS = 10_000;
const WAVE = 250;
/** What the node opens by itself while it lives. */
const OWN_FILES = 60;
const FLAT_MIB = 64;

const filesOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
const rssMiB = (pid: number): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;

async function idle(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  // It is closed some time, by a reset too.
  socket.on("error", () => {}).resume();
  await Promise.race([once(socket, "connect"), once(socket, "close")]);
  return socket;
}

async function askOverTcp(port: number): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  const query = queryBytes({ name: NAME, type: "A" });
  socket.end(Buffer.concat([Buffer.from([0, query.length]), query]));
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(socket, "close", { signal: AbortSignal.timeout(30_000) });
  return responseText(Buffer.concat(chunks).subarray(2));
}

test("ten thousand idle connections take no more than their bound of a node, and keep nobody from an answer", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  const web = ["--namespace", "svc.market", "--name", "web", "--instance", "1", "--target", "10.0.0.1:80"];
  expect(await node.run(["register", ...web])).toMatchObject({ exit: 0 });
  const port = Number((node.listeners["dns"] ?? "").split(":").at(-1));
  await until("DNS shows it", async () => (await askOnce(port, NAME))?.[0] === "10.0.0.1");
  const before = { files: filesOf(node.command.pid), mib: rssMiB(node.command.pid) };
  const open = new Set<Socket>();
  try {
    let mostFiles = 0;
    for (let made = 0; made < CONNECTIONS; made += WAVE) {
      const wave = await Promise.all(Array.from({ length: WAVE }, () => idle(port)));
      for (const socket of wave) {
        open.add(socket);
        socket.once("close", () => open.delete(socket));
        if (socket.closed) open.delete(socket);
      }
      expect(await askOverTcp(port)).toContain(" A 10.0.0.1");
      expect(await askOnce(port, NAME)).toEqual(["10.0.0.1"]);
      mostFiles = Math.max(mostFiles, filesOf(node.command.pid));
    }
    expect(mostFiles).toBeLessThan(before.files + DNS_LIMITS.maxConnections + WAVE + OWN_FILES);
    await until("no more than the bound are left", () => open.size <= DNS_LIMITS.maxConnections);
    expect(filesOf(node.command.pid)).toBeLessThan(before.files + DNS_LIMITS.maxConnections + OWN_FILES);
    expect(rssMiB(node.command.pid)).toBeLessThan(before.mib + FLAT_MIB);
    await until("idle ones are closed in the end", () => open.size === 0);
  } finally {
    for (const socket of open) socket.destroy();
  }
});
