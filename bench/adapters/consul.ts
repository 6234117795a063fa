/**
 * Consul as our figures stand beside it.
 *
 * Made equal: services and instances, their address, port and two tags, keys drawn at random, 64 connections that are kept with one
 * request under way each, no TLS, one core (`GOMAXPROCS=1`). The agent is a server by itself, so that a stale read and a cached one
 * are answered by the process that is asked; where an agent asks a server, Consul spends more.
 * Equal entries are not equal bytes: an instance in a health answer is longer than ours. So our door is also asked for entries
 * whose metadata makes the answer as long.
 * Not equal, for Consul: an instance has no check of its own, though those of its users do. Not equal, for us: Consul writes
 * through Raft, alone, and knows intentions, prepared queries and more that costs its reads little.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { HttpWire } from "../_http.ts";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, type Running, runningOf, scratchDir } from "../_processes.ts";
import { INSTANCES, keyOf, shapeOf } from "../_work.ts";

const START_MS = 180_000;
/** Operations in one transaction; Consul takes 128. */
const BATCH = 64;

/** How a read may be answered: by any server, or from the agent's cache. */
export type ConsulReading = "stale" | "cached";

interface Agent {
  readonly name: string;
  readonly http: number;
  readonly server: number;
  readonly lan: number;
}

async function agentOf(name: string): Promise<Agent> {
  return { name, http: await freePort(), server: await freePort(), lan: await freePort() };
}

interface AgentOptions {
  /** Agents that elect a leader; 0: this agent asks them. */
  readonly servers: number;
  readonly joins: readonly Agent[];
  readonly isFree: boolean;
}

/** Starts one agent, and waits until it has a leader and knows its own node. */
async function startAgent(program: string, { name, http, server, lan }: Agent, { servers, joins, isFree }: AgentOptions): Promise<Running> {
  const dataDir = scratchDir("consul");
  const config = {
    server: servers > 0,
    ...(servers > 0 && { bootstrap_expect: servers }),
    node_name: name,
    data_dir: join(dataDir, "data"),
    bind_addr: "127.0.0.1",
    client_addr: "127.0.0.1",
    retry_join: joins.map((agent) => `127.0.0.1:${agent.lan}`),
    retry_interval: "1s",
    ports: { http, server, serf_lan: lan, serf_wan: -1, dns: -1, grpc: -1, grpc_tls: -1 },
    log_level: "ERROR",
    disable_update_check: true,
    performance: { raft_multiplier: 1 },
    limits: { http_max_conns_per_client: 10_000 },
  };
  const file = join(dataDir, "config.json");
  writeFileSync(file, JSON.stringify(config));
  const flags = ["agent", `-config-file=${file}`];
  const [command, args] = isFree ? [program, flags] : onServerCore(program, flags);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, GOMAXPROCS: "1" } });
  const running = runningOf("consul", child, { grpc: { host: "127.0.0.1", port: http }, startMs: 0 });
  const end = performance.now() + START_MS;
  while (!(await isPartOf(running, name))) {
    if (performance.now() > end) throw new Error(`${name} does not find itself in the catalog`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { ...running, startMs: performance.now() - startedMs };
}

async function isPartOf({ grpc }: Running, name: string): Promise<boolean> {
  try {
    const wire = await HttpWire.open(grpc);
    const nodes = await wire.request({ path: "/v1/catalog/nodes" });
    wire.close();
    return nodes.includes(`"${name}"`);
  } catch {
    return false;
  }
}

/** Starts one agent by itself; undefined when Consul is not installed. */
export async function startConsul(): Promise<Running | undefined> {
  const program = peerProgram("consul");
  if (program === undefined) return undefined;
  return startAgent(program, await agentOf("bench"), { servers: 1, joins: [], isFree: false });
}

/** Starts servers, and agents that ask them, on whatever core there is; none when Consul is not installed. */
export async function startConsulCluster(servers: number, agents: number): Promise<readonly Running[]> {
  const program = peerProgram("consul");
  if (program === undefined) return [];
  const all: Agent[] = [];
  for (let i = 0; i < servers + agents; i++) all.push(await agentOf(`bench-${i}`));
  const joins = all.slice(0, servers);
  const elected = await Promise.all(joins.map((agent) => startAgent(program, agent, { servers, joins, isFree: true })));
  const asking: Running[] = [];
  for (const agent of all.slice(servers)) asking.push(await startAgent(program, agent, { servers: 0, joins, isFree: true }));
  return [...elected, ...asking];
}

/** The healthy instances of one service. */
export function consulHealth(service: number, reading: ConsulReading): string {
  return `/v1/health/service/service-${service}?${reading}`;
}

/** Registers entries 0 up to `count`: an instance of each service on each of ten nodes. */
export async function loadConsul(consul: Running, count: number): Promise<void> {
  const wire = await HttpWire.open(consul.grpc);
  const nodes = Array.from({ length: INSTANCES }, (_, i) => ({ Node: { Verb: "set", Node: { Node: `n-${i}`, Address: `10.0.0.${i}` } } }));
  await wire.request({ method: "PUT", path: "/v1/txn", body: JSON.stringify(nodes) });
  for (let from = 0; from < count; from += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, count - from) }, (_, i) => from + i);
    await wire.request({ method: "PUT", path: "/v1/txn", body: JSON.stringify(numbers.map(serviceOf)) });
  }
  wire.close();
}

function serviceOf(k: number): object {
  const { name, instanceId } = keyOf(k);
  const { host, port, tags } = shapeOf(k);
  const service = { ID: `${name}-${instanceId}`, Service: name, Tags: tags, Address: host, Port: port };
  return { Service: { Verb: "set", Node: `n-${k % INSTANCES}`, Service: service } };
}
