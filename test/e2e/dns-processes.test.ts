/**
 * A node whose DNS is answered by processes of their own: what clients see of them, and what becomes of both when either ends.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { dig, isDigThere } from "../fakes/dig.ts";
import { askOften, askOnce, dnsProcessesOf, serialAt } from "../fakes/dns-processes.ts";
import { CommandProcess, type NodeProcess, onFreePorts, startNodeProcess } from "../fakes/node-process.ts";
import { freePort } from "../fakes/probed-servers.ts";
import { isRunning } from "../fakes/running.ts";
import { until } from "../fakes/until.ts";
import { newZoneKey, toldByGateway, toldByName } from "../fakes/zone-keys.ts";

const NAME = "web.svc.market.waymark";
/** Of so many ports each of two processes gets some, but for one run in 500,000. */
const TIMES = 20;
const folder = mkdtempSync(join(tmpdir(), "waymark-dns-processes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function dns(toml: string): readonly string[] {
  const path = join(folder, `${files++}.toml`);
  writeFileSync(path, `[dns]\n${toml}\n`);
  return ["--ephemeral", "--config", path];
}

const portOf = (node: NodeProcess): number => Number((node.listeners["dns"] ?? "").split(":").at(-1));

/** A LOCAL entry: no other node would have it. */
async function register(node: NodeProcess, host: string): Promise<void> {
  const web = ["--namespace", "svc.market", "--name", "web", "--instance", "1", "--scope", "local", "--target", `${host}:80`];
  expect(await node.run(["register", ...web])).toMatchObject({ exit: 0 });
}

const shows = (port: number, address: string) => until(`DNS shows ${address}`, async () => (await askOnce(port, NAME))?.[0] === address);

async function get(node: NodeProcess, path: string): Promise<string> {
  const answer = await fetch(`http://${node.listeners["http"]}${path}`);
  return answer.text();
}

/** What a watch of the health of a service is told, one status after the other. */
function healthOf(node: NodeProcess, service: string) {
  const health = createClient(Health, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));
  const told = health.watch({ service })[Symbol.asyncIterator]();
  return { says: async (status: Status) => expect((await told.next()).value).toMatchObject({ status }) };
}

const state = async (node: NodeProcess): Promise<string> => /\d+ of \d+ processes answer/.exec(await get(node, "/readyz"))?.[0] ?? "";

/** Questions that were answered with an address, as the one scrape counts them. */
async function answeredCount(node: NodeProcess): Promise<number> {
  const row = /^dns_queries_total\{qtype="A",rcode="NOERROR",transport="udp"\} (\d+)$/m;
  return Number(row.exec(await get(node, "/metrics"))?.[1] ?? 0);
}

/** Whether each process tells serials that were cut since that time, in seconds. */
async function areCutSince(port: number, seconds: number): Promise<boolean> {
  const serials = await Promise.all(Array.from({ length: TIMES }, () => serialAt(port, "waymark")));
  return serials.every((serial) => serial !== undefined && serial >= seconds);
}

test("a process that is killed is replaced, and SIGHUP makes the new process read its files again", async () => {
  const keyFile = join(folder, "reloaded.pem");
  writeFileSync(keyFile, newZoneKey(), { mode: 0o600 });
  await using node = await startNodeProcess(dns(`processes = 1\ndnssec_key_file = "${keyFile}"`));
  const [first = 0] = dnsProcessesOf(node.command.pid);
  process.kill(first, "SIGKILL");
  await until("the process is replaced", async () => {
    const running = dnsProcessesOf(node.command.pid);
    return running.length === 1 && !running.includes(first) && (await state(node)) === "1 of 1 processes answer";
  });
  writeFileSync(keyFile, "not a key", { mode: 0o600 });
  node.command.kill("SIGHUP");
  expect(await node.command.errorLine(/"dnsProcess":1,.*reload failed/)).toContain("zone key reload failed");
});

test("processes answer alone, as one; when one is killed the other goes on, and it comes back; a stop ends them all, whoever gets its signal", {
  tags: ["night"],
}, async () => {
  const beganSeconds = Math.floor(Date.now() / 1000);
  await using node = await startNodeProcess(dns("processes = 2"));
  const port = portOf(node);
  const first = dnsProcessesOf(node.command.pid);
  expect(first).toHaveLength(2);
  expect(await state(node)).toBe("2 of 2 processes answer");
  await register(node, "10.0.0.1");
  await shows(port, "10.0.0.1");
  expect(await areCutSince(port, beganSeconds)).toBe(true);
  const before = await answeredCount(node);
  const answers = await askOften(port, NAME, TIMES);
  expect(answers).toEqual(Array.from({ length: TIMES }, () => ["10.0.0.1"]));
  expect(await answeredCount(node)).toBe(before + TIMES);
  if (isDigThere()) expect(await dig(`127.0.0.1:${port}`, "+tcp", "+short", NAME)).toBe("10.0.0.1\n");

  const second = new CommandProcess(["serve", ...dns("processes = 2"), ...onFreePorts(["--dns-port", `${port}`])]);
  expect((await second.finished()).stderr).toContain(`address already in use: dns udp 127.0.0.1:${port}`);

  const [killed = 0, other = 0] = first;
  process.kill(killed, "SIGKILL");
  await until("it is gone", async () => (await state(node)) === "1 of 2 processes answer");
  expect(await askOften(port, NAME, TIMES)).toEqual(answers);
  expect(await answeredCount(node)).toBeGreaterThanOrEqual(TIMES);
  await until("it is back", async () => (await state(node)) === "2 of 2 processes answer");
  const now = dnsProcessesOf(node.command.pid);
  expect(now).toHaveLength(2);
  expect(now).toContain(other);
  const backSeconds = Math.floor(Date.now() / 1000);
  await register(node, "10.0.0.2");
  await shows(port, "10.0.0.2");
  await until("the change is in the serial", () => areCutSince(port, backSeconds));
  expect(await get(node, "/metrics")).toMatch(/^waymark_dns_processes_ended_total 1$/m);

  // As a terminal or a supervisor does, which tells all processes of the node.
  for (const pid of now) process.kill(pid, "SIGTERM");
  expect(await askOften(port, NAME, TIMES)).not.toContain(undefined);
  expect(await node.stop()).toMatchObject({ exit: 0 });
  expect(now.filter(isRunning)).toEqual([]);
});

test("one process comes back to both of its ports after a gap, and ends by itself when its node is killed; ResolveName knows the keys that it signs with", {
  tags: ["night"],
}, async () => {
  const tcp = await freePort();
  const keyFile = join(folder, "zone.pem");
  writeFileSync(keyFile, newZoneKey(), { mode: 0o600 });
  await using node = await startNodeProcess(dns(`processes = 1\ntcp_port = ${tcp}\ndnssec_key_file = "${keyFile}"`));
  const port = portOf(node);
  expect(port).not.toBe(tcp);
  const before = await toldByName(node);
  expect(before).not.toContain("");
  if (isDigThere()) expect(before).toEqual(await toldByGateway(node));
  writeFileSync(keyFile, newZoneKey(), { mode: 0o600 });
  node.command.kill("SIGHUP");
  await until("the other key is told", async () => (await toldByName(node))[1] !== before[1]);
  if (isDigThere()) await until("by both", async () => (await toldByGateway(node)).join() === (await toldByName(node)).join());
  await register(node, "10.0.0.1");
  const [only = 0] = dnsProcessesOf(node.command.pid);
  const told = healthOf(node, "dns");
  await told.says(Status.SERVING);
  process.kill(only, "SIGKILL");
  await told.says(Status.NOT_SERVING);
  await until("it is gone", async () => (await state(node)) === "0 of 1 processes answer");
  await told.says(Status.SERVING);
  await shows(port, "10.0.0.1");
  if (isDigThere()) expect(await dig(`127.0.0.1:${tcp}`, "+tcp", "+short", NAME)).toBe("10.0.0.1\n");
  const [again = 0] = dnsProcessesOf(node.command.pid);
  node.command.kill("SIGKILL");
  await until("it has ended too", () => !isRunning(again));
});
