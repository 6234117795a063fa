/**
 * Load from programs that are not ours: h2load posts the same bytes to us and to a peer, ghz says how long calls took, and etcd's own benchmark
 * drives etcd alone. They cost more than our driver, so a server is not always busy under them. CPU time a call shows whether our driver favours us.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { peerProgram } from "./_peers.ts";
import { hasTool, type Running, scratchDir } from "./_processes.ts";
import { type Goal, percentile, ratioOf, type Shown, type Spread, spread } from "./_results.ts";
import { ask, drive } from "./_work.ts";

const CONNECTIONS = 4;
const UNDER_WAY = 64;
/** Rounds before those that count: Node compiles what has run often enough. */
const WARM_ROUNDS = 2;

/** Who sends the calls. */
type DriverName = "ours" | "h2load" | "ghz" | "etcd's benchmark";

/** One call that is repeated with the same bytes. */
export interface Repeated {
  readonly path: string;
  readonly message: Uint8Array;
  /** How etcd's benchmark makes this call; absent: it leaves it out. */
  readonly etcdBenchmark?: readonly string[];
}

/** What one side is asked for: a unit of work is each of these calls once. */
export interface Checked {
  readonly server: Running;
  readonly calls: readonly Repeated[];
}

/** What a program that drives has printed. */
async function output(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let [text, log] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString("utf8")));
  child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString("utf8")));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${command} ended with code ${code}: ${log.slice(-500)}`);
  return text;
}

function fileOf(name: string, content: Uint8Array | string): string {
  const file = join(scratchDir("driver"), name);
  writeFileSync(file, content);
  return file;
}

/** Makes so many calls. Returns how long they took in ms, where a driver says it. */
type Driver = (server: Running, call: Repeated, count: number) => Promise<readonly number[]>;

async function ourDriver(server: Running, { path, message }: Repeated, count: number): Promise<readonly number[]> {
  await drive(server, path, { count, inFlight: UNDER_WAY, connections: CONNECTIONS, message: () => message });
  return [];
}

async function h2load({ grpc: { host, port } }: Running, { path, message }: Repeated, count: number): Promise<readonly number[]> {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  const data = fileOf("body", Buffer.concat([head, message]));
  const load = ["-n", `${count}`, "-c", `${CONNECTIONS}`, "-m", `${UNDER_WAY / CONNECTIONS}`, "-d", data];
  const headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
  const text = await output("h2load", [...load, ...headers, `http://${host}:${port}${path}`]);
  if (!text.includes(` ${count} succeeded`)) throw new Error(`h2load: ${text}`);
  return [];
}

/** A schema of the service in which a message has no fields: what is sent is sent as it stands. */
function schemaOf(path: string): string {
  const [service = "", method = ""] = path.slice(1).split("/");
  const dot = service.lastIndexOf(".");
  return [
    'syntax = "proto3";',
    `package ${service.slice(0, dot)};`,
    "message Any {}",
    `service ${service.slice(dot + 1)} { rpc ${method}(Any) returns (Any); }`,
  ].join("\n");
}

interface GhzReport {
  readonly statusCodeDistribution: Readonly<Record<string, number>>;
  readonly details: readonly { readonly latency: number }[];
}

async function ghz({ grpc: { host, port } }: Running, { path, message }: Repeated, count: number): Promise<readonly number[]> {
  const call = ["--proto", fileOf("service.proto", schemaOf(path)), "--call", path.slice(1), "-B", fileOf("message", message)];
  const load = ["-n", `${count}`, "-c", `${UNDER_WAY}`, "--connections", `${CONNECTIONS}`];
  const text = await output(peerProgram("ghz") ?? "", ["--insecure", ...call, ...load, "--format", "json", `${host}:${port}`]);
  const report = JSON.parse(text) as GhzReport;
  if (report.statusCodeDistribution["OK"] !== count) throw new Error(`ghz: ${JSON.stringify(report.statusCodeDistribution)}`);
  return report.details.map(({ latency }) => latency / 1e6);
}

async function etcdBenchmark(
  { grpc: { host, port } }: Running,
  { etcdBenchmark: args }: Repeated,
  count: number,
): Promise<readonly number[]> {
  if (args === undefined) return [];
  const load = [`--endpoints=${host}:${port}`, `--conns=${CONNECTIONS}`, `--clients=${UNDER_WAY}`, `--total=${count}`];
  await output(peerProgram("etcd-benchmark") ?? "", [...args, ...load]);
  return [];
}

const DRIVERS: Readonly<Record<DriverName, Driver>> = { ours: ourDriver, h2load, ghz, "etcd's benchmark": etcdBenchmark };
const DRIVER_NAMES = ["ours", "h2load", "ghz", "etcd's benchmark"] as const;

function isThere(driver: DriverName): boolean {
  if (driver === "ours") return true;
  if (driver === "h2load") return hasTool("h2load");
  return peerProgram(driver === "ghz" ? "ghz" : "etcd-benchmark") !== undefined;
}

/** One side under one driver. */
export interface CheckRow {
  readonly work: string;
  readonly driver: DriverName;
  readonly who: string;
  readonly "CPU µs": Spread | string;
  /** Of all calls of a round that were made, as the driver says it. */
  readonly "p50 ms": number | string;
  readonly "p99 ms": number | string;
  /** What the peer spends over what we spend; absent for us. */
  readonly "ours does": Spread | string;
}

interface Round {
  readonly cpuUs: number;
  readonly tookMs: readonly number[];
}

async function oneRound(driver: Driver, { server, calls }: Checked, count: number): Promise<Round> {
  const beforeMs = server.cpuMs();
  const tookMs: number[] = [];
  for (const call of calls) tookMs.push(...(await driver(server, call, count)));
  return { cpuUs: ((server.cpuMs() - beforeMs) * 1000) / count, tookMs };
}

function rowOf(head: Pick<CheckRow, "work" | "driver" | "who">, rounds: readonly Round[], ours?: readonly Round[]): CheckRow {
  const cpuUs = (of: readonly Round[]) => of.map((round) => round.cpuUs);
  const tookMs = rounds.flatMap((round) => round.tookMs);
  return {
    ...head,
    "CPU µs": rounds.length === 0 ? "not measured" : spread(cpuUs(rounds)),
    "p50 ms": tookMs.length === 0 ? "-" : percentile(tookMs, 0.5),
    "p99 ms": tookMs.length === 0 ? "-" : percentile(tookMs, 0.99),
    "ours does": (ours !== undefined && rounds.length > 0 && ratioOf(cpuUs(rounds), cpuUs(ours))) || "-",
  };
}

export interface CheckOptions {
  readonly rounds: number;
  /** Units of work in a round. */
  readonly count: number;
}

/** The same work under each driver and at each side, in rounds that go through all of them there and back. */
export async function underOtherDrivers(
  work: string,
  sides: readonly Checked[],
  { rounds, count }: CheckOptions,
): Promise<readonly CheckRow[]> {
  console.error(`${work}, under other drivers`);
  for (const { server, calls } of sides) for (const { path, message } of calls) await ask(server, path, message);
  // etcd's drives nobody else.
  const pairs = DRIVER_NAMES.flatMap((driver) =>
    sides
      .filter(({ server }) => driver !== "etcd's benchmark" || server.name === "etcd")
      .map((side) => ({ driver, side, rounds: [] as Round[] })),
  );
  const there = pairs.filter(({ driver }) => isThere(driver));
  for (let r = 0; r < WARM_ROUNDS + rounds; r++)
    for (const pair of r % 2 === 0 ? there : there.toReversed()) {
      const round = await oneRound(DRIVERS[pair.driver], pair.side, count);
      if (r >= WARM_ROUNDS) pair.rounds.push(round);
    }
  return pairs.map(({ driver, side, rounds: measured }) => {
    const ours = pairs.find((pair) => pair.driver === driver && pair.side.server.name === "waymark");
    return rowOf({ work, driver, who: side.server.name }, measured, side === ours?.side ? undefined : ours?.rounds);
  });
}

/** What our node does beside etcd under h2load: as much is wanted as under our own driver. */
export function h2loadGoal(rows: readonly CheckRow[], name: string, atLeast: number, shown: Pick<Shown, "work" | "beside" | "unit">): Goal {
  const row = (who: string) => rows.find((each) => each.driver === "h2load" && each.who === who);
  const [ours, theirs] = [row("waymark")?.["CPU µs"], row("etcd")?.["CPU µs"]];
  const ratio = row("etcd")?.["ours does"];
  if (typeof ratio !== "object" || typeof ours !== "object" || typeof theirs !== "object")
    return { name, value: undefined, unit: "×", atLeast, note: "not measured: etcd or h2load is not installed" };
  return { name, value: ratio.median, unit: "×", atLeast, shown: { ...shown, ours, theirs, ratio } };
}
