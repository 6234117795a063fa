/**
 * Consul as our figures stand beside it.
 *
 * Made equal: services and instances, their address, port and two tags, keys drawn at random, 64 connections that are kept with one
 * request under way each (over gRPC too, where our node is asked by it), no TLS, one core (`GOMAXPROCS=1`; in a cluster every agent has the
 * machine's cores, as our nodes do). In `query` the agent is a server by itself, so that a stale read and a cached one are answered by the process
 * that is asked; where an agent asks a server, Consul spends more. In `resolver` a cached read is answered by a client agent beside a server, as a
 * resolver answers beside a node, and the CPU time is that of the client agent: of one as it is shipped, and of one at its best for such reads (`TUNED`).
 * Answers of equal entries have about as many bytes, ours a little more. `query` measures both; where they are not within 2 % it makes the
 * shorter side longer and measures again.
 * In `regions` two servers, each a datacenter by itself, are peered: Consul demands TLS for that, so our border has it too. Everything is exported by a wildcard, to one peer. No setting of
 * peering makes a change cost fewer bytes: its exporter sends all instances of a service for each change of one, uncompressed (agent/grpc-external/services/peerstream of 1.22).
 * Not equal, for Consul: an instance has no check of its own, though those of its users do. Not equal, for us: Consul writes
 * through Raft, alone, and knows intentions, prepared queries and more that costs its reads little.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { contentOf, type HttpRequest, HttpWire } from "../_http.ts";
import { peerProgram } from "../_peers.ts";
import { onServerCore, type Running, runningOf, scratchDir } from "../_processes.ts";
import type { Address } from "../_wire.ts";
import { INSTANCES, keyOf, shapeOf } from "../_work.ts";

const HTTP_PORT = 8500;
const START_MS = 120_000;
/** Operations in one transaction; Consul takes 128. */
export const BATCH = 64;
/** How much of an agent's log is shown when it does not start. */
const TOLD_BYTES = 1000;

/** How a read may be answered: by any server, or from the agent's cache. */
export type ConsulReading = "stale" | "cached";

interface Agent {
  readonly name: string;
  /** Of its own, with Consul's usual ports: a port that was free a moment ago may be taken when ten programs start. */
  readonly host: string;
}

/** Agent number `i` of this process. */
function agentOf(i: number): Agent {
  return { name: `bench-${i}`, host: `127.${1 + (process.pid % 250)}.${(process.pid >> 8) % 250}.${1 + i}` };
}

/**
 * Settings with which cached reads cost a client agent the least without much more memory than a resolver takes: without the streaming backend, which keeps
 * cached answers current by events and costs a read more, and with half as many collections of garbage as Go has by itself.
 */
const TUNED: Pick<AgentOptions, "config" | "env"> = { config: { use_streaming_backend: false }, env: { GOGC: "200" } };

interface AgentOptions {
  /** Agents that elect a leader; 0: this agent asks them. */
  readonly servers: number;
  readonly joins: readonly Agent[];
  /** On whatever cores there are, with Go's own number of threads; otherwise alone on one core. */
  readonly isFree: boolean;
  /** Settings beside those of all agents here. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts one agent, and waits until the catalog has its node, which takes a leader. */
async function startAgent(
  program: string,
  { name, host }: Agent,
  { servers, joins, isFree, config: own = {}, env: more = {} }: AgentOptions,
): Promise<Running> {
  const dataDir = scratchDir("consul");
  const config = {
    server: servers > 0,
    ...(servers > 0 && { bootstrap_expect: servers }),
    node_name: name,
    data_dir: join(dataDir, "data"),
    bind_addr: host,
    client_addr: host,
    retry_join: joins.map((agent) => agent.host),
    retry_interval: "1s",
    ports: { serf_wan: -1, dns: -1, grpc: -1, grpc_tls: -1 },
    log_level: "ERROR",
    disable_update_check: true,
    // What Consul recommends for production; its default waits longer for everything.
    performance: { raft_multiplier: 1 },
    limits: { http_max_conns_per_client: 10_000 },
    ...own,
  };
  const [file, log] = [join(dataDir, "config.json"), join(dataDir, "log")];
  writeFileSync(file, JSON.stringify(config));
  const flags = ["agent", `-config-file=${file}`];
  const [command, args] = isFree ? [program, flags] : onServerCore(program, flags);
  const startedMs = performance.now();
  const output = openSync(log, "w");
  const env = { ...process.env, ...(!isFree && { GOMAXPROCS: "1" }), ...more };
  const child = spawn(command, args, { stdio: ["ignore", output, output], env });
  closeSync(output);
  const running = runningOf("consul", child, { grpc: { host, port: HTTP_PORT }, startMs: 0 });
  const end = performance.now() + START_MS;
  while (!(await isPartOf(running, name))) {
    const isOver = performance.now() > end;
    if (isOver || child.exitCode !== null)
      throw new Error(
        `Consul's ${name} ${isOver ? `is not in its catalog after ${START_MS} ms` : "ended"}: ${readFileSync(log, "utf8").slice(-TOLD_BYTES)}`,
      );
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { ...running, startMs: performance.now() - startedMs };
}

async function isPartOf({ grpc }: Running, name: string): Promise<boolean> {
  try {
    const wire = await HttpWire.open(grpc);
    const nodes = await wire.request({ path: "/v1/catalog/nodes" }).finally(() => wire.close());
    return nodes.includes(`"${name}"`);
  } catch {
    // It does not listen yet, or has no leader.
    return false;
  }
}

/** Starts one agent by itself; undefined when Consul is not installed. */
export async function startConsul(): Promise<Running | undefined> {
  const program = peerProgram("consul");
  if (program === undefined) return undefined;
  return startAgent(program, agentOf(0), { servers: 1, joins: [], isFree: false });
}

/** A server, and two agents that ask it: one as Consul is shipped, and one at its best for cached reads. */
export interface ConsulAgents {
  readonly server: Running;
  readonly shipped: Running;
  readonly tuned: Running;
}

/** Starts a server on whatever core there is, and on one core, where only one is asked at a time, two agents that ask it; undefined when Consul is not installed. */
export async function startConsulAgents(): Promise<ConsulAgents | undefined> {
  const program = peerProgram("consul");
  if (program === undefined) return undefined;
  const joins = [agentOf(0)];
  const server = await startAgent(program, agentOf(0), { servers: 1, joins, isFree: true });
  const shipped = await startAgent(program, agentOf(1), { servers: 0, joins, isFree: false });
  return { server, shipped, tuned: await startAgent(program, agentOf(2), { servers: 0, joins, isFree: false, ...TUNED }) };
}

/** Starts servers, and then agents that ask them; none when Consul is not installed. */
export async function startConsulCluster(servers: number, agents: number): Promise<readonly Running[]> {
  const program = peerProgram("consul");
  if (program === undefined) return [];
  const all = Array.from({ length: servers + agents }, (_, i) => agentOf(i));
  const joins = all.slice(0, servers);
  const elected = await Promise.all(joins.map((agent) => startAgent(program, agent, { servers, joins, isFree: true })));
  const asking = all.slice(servers).map((agent) => startAgent(program, agent, { servers: 0, joins, isFree: true }));
  return [...elected, ...(await Promise.all(asking))];
}

const PEERING_PORT = 8503;

/** Two servers, each a datacenter by itself. The second imports all services of the first, over a connection that goes through `relay`. */
export interface ConsulPeers {
  readonly exporting: Running;
  readonly importing: Running;
  /** Begins to export. */
  begin(): Promise<void>;
  /** Healthy instances of a service that the second has from the first. */
  imported(service: string): Promise<number>;
}

/** Undefined when Consul is not installed. `relay` starts what counts, before that address. */
export async function startConsulPeers(relay: (to: Address) => Promise<Address>): Promise<ConsulPeers | undefined> {
  const program = peerProgram("consul");
  if (program === undefined) return undefined;
  const start = (i: number, datacenter: string) =>
    startAgent(program, agentOf(i), {
      servers: 1,
      joins: [],
      isFree: true,
      config: {
        datacenter,
        connect: { enabled: true },
        peering: { enabled: true },
        ports: { serf_wan: -1, dns: -1, grpc: -1, grpc_tls: PEERING_PORT },
      },
    });
  const [exporting, importing] = [await start(0, "east"), await start(1, "west")];
  const put = (to: Running, path: string, body: object, method: "POST" | "PUT" = "PUT") =>
    asked(to, { method, path, body: JSON.stringify(body) });
  const counted = await relay({ host: exporting.grpc.host, port: PEERING_PORT });
  const at = `${counted.host}:${counted.port}`;
  // The authority of its certificates takes a moment.
  const token = JSON.parse(
    await patiently(() => put(exporting, "/v1/peering/token", { PeerName: "west", ServerExternalAddresses: [at] }, "POST")),
  ) as {
    readonly PeeringToken: string;
  };
  await patiently(() => put(importing, "/v1/peering/establish", { PeerName: "east", PeeringToken: token.PeeringToken }, "POST"));
  return {
    exporting,
    importing,
    begin: async () => {
      const services = [{ Name: "*", Consumers: [{ Peer: "west" }] }];
      await put(exporting, "/v1/config", { Kind: "exported-services", Name: "default", Services: services });
    },
    imported: async (service) => {
      const instances = JSON.parse(await asked(importing, { path: `/v1/health/service/${service}?peer=east` })) as readonly unknown[];
      return instances.length;
    },
  };
}

async function asked(of: Running, request: HttpRequest): Promise<string> {
  const wire = await HttpWire.open(of.grpc);
  const answer = await wire.ask(request).finally(() => wire.close());
  return contentOf(answer).toString("utf8");
}

/** Again until it succeeds, for as long as a start may take. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  const end = performance.now() + START_MS;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** The healthy instances of one service. */
export function consulHealth(service: number, reading: ConsulReading): string {
  return `/v1/health/service/service-${service}?${reading}`;
}

/** Registers entries 0 up to `count`: an instance of each service on each of ten nodes. `padding`: characters of metadata of each. */
export async function loadConsul(consul: Running, count: number, padding = 0): Promise<void> {
  const wire = await HttpWire.open(consul.grpc);
  await wire.request({ method: "PUT", path: "/v1/txn", body: consulNodes() });
  for (let from = 0; from < count; from += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, count - from) }, (_, i) => from + i);
    await wire.request({ method: "PUT", path: "/v1/txn", body: JSON.stringify(numbers.map((k) => serviceOf(k, padding))) });
  }
  wire.close();
}

/** A transaction that registers the nodes of all instances. */
export function consulNodes(): string {
  const nodes = Array.from({ length: INSTANCES }, (_, i) => ({ Node: { Verb: "set", Node: { Node: `n-${i}`, Address: `10.0.0.${i}` } } }));
  return JSON.stringify(nodes);
}

/** A transaction in which instances of services of many instances are registered, or taken out: at most 128. */
export function consulMembers(numbers: readonly number[], nameOf: (k: number) => string, isThere: boolean): string {
  const operations = numbers.map((k) => {
    const name = nameOf(k);
    const { host, port, tags } = shapeOf(k);
    const service = { ID: `${name}-${k}`, Service: name, ...(isThere && { Tags: tags, Address: host, Port: port }) };
    return { Service: { Verb: isThere ? "set" : "delete", Node: `n-${k % INSTANCES}`, Service: service } };
  });
  return JSON.stringify(operations);
}

function serviceOf(k: number, padding: number): object {
  const { name, instanceId } = keyOf(k);
  const { host, port, tags } = shapeOf(k);
  const meta = padding > 0 ? { Meta: { padding: "x".repeat(padding) } } : {};
  const service = { ID: `${name}-${instanceId}`, Service: name, Tags: tags, Address: host, Port: port, ...meta };
  return { Service: { Verb: "set", Node: `n-${k % INSTANCES}`, Service: service } };
}
