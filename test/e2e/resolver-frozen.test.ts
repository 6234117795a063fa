/**
 * What programs are told of names that a resolver fetched while its only node stands still (SIGSTOP), longer than any of the answers keeps, and after that.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError, createClient, type Client as RpcClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Source } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { type CatalogQueryResponse, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-resolver-frozen-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

/** The least that the settings permit. After three times as long a fetched answer is told only while no server answers. */
const TTL_MS = 1000;
const CONFIG = join(HOME, "resolver.json");
const TTLS = { ttl_zone: "1s", ttl_region: "1s", ttl_global: "1s", negative_ttl: "10s" };
writeFileSync(CONFIG, JSON.stringify({ resolver: TTLS, observability: { log_level: "warn" } }));

/** One name in each namespace. Each is asked for at most three times in ten seconds, so that none is followed. */
const NAMES = 60;
const namespaceOf = (i: number) => `svc.ns${i}`;
/** After so long another name is asked for: the last third when what was fetched is past its time, and few resolvers know already that nobody answers. */
const EACH_MS = 75;
/** What a program gives each lookup. A resolver waits 5 s for its upstream, and answers then. */
const PROGRAM_MS = 20_000;
/** The same of a program with a bound for the age, which gives up before the resolver would. */
const HASTY_MS = 2000;

class Asked {
  readonly #client: RpcClient<typeof DiscoveryService>;
  readonly #http: string;
  /** When the answer to each name was here that was fetched before the node stood still. */
  readonly fetchedMonoMs: number[] = [];

  constructor(resolver: NodeProcess) {
    this.#client = clientOf(resolver);
    this.#http = resolver.listeners["http"] ?? "";
  }

  query(i: number): Promise<CatalogQueryResponse> {
    return this.#client.catalogQuery({ namespace: namespaceOf(i), names: ["web"] }, { timeoutMs: PROGRAM_MS });
  }

  /** Why a program is refused that takes nothing as old as what is there. */
  tooOld(i: number): Promise<string> {
    const asked = { namespace: namespaceOf(i), names: ["web"], maxStaleness: { seconds: 0n, nanos: 100_000_000 } };
    return refusal(this.#client.catalogQuery(asked, { timeoutMs: HASTY_MS }));
  }

  /** Why a program is refused that asks for what nobody has asked for before. */
  unknown(name: string): Promise<string> {
    return refusal(this.#client.catalogQuery({ namespace: "svc.unknown", names: [name] }, { timeoutMs: PROGRAM_MS }));
  }

  /** The upstream that it reads. Empty while none answers. */
  async upstream(): Promise<string> {
    const answer = await fetch(`http://${this.#http}/discovery/cache`);
    return ((await answer.json()) as { readonly upstream?: string }).upstream ?? "";
  }
}

/** A name for the first time. */
async function fetchFirst(asked: Asked, i: number): Promise<void> {
  expect(told(await asked.query(i))).toEqual({ ports: [80], source: Source.FETCHED, stale: false });
  asked.fetchedMonoMs[i] = performance.now();
}

/** A name while the node stands still. What is certain to be older than its ttl is stale. */
async function lookUp(asked: Asked, i: number): Promise<{ readonly isStale: boolean }> {
  const mustBeStale = performance.now() - (asked.fetchedMonoMs[i] ?? 0) > TTL_MS;
  const { stale: isStale, ...rest } = told(await asked.query(i));
  expect(rest).toEqual({ ports: [80], source: Source.FETCHED });
  if (mustBeStale) expect(isStale).toBe(true);
  return { isStale };
}

function clientOf(server: NodeProcess) {
  return createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${server.grpc}` }));
}

function told({ items, source, stale }: CatalogQueryResponse) {
  return { ports: items.flatMap(({ targets }) => targets.map(({ port }) => port)), source, stale };
}

/** The code and the reason. An answer is one too many. */
async function refusal(call: Promise<CatalogQueryResponse>): Promise<string> {
  try {
    return `answered with ${(await call).items.length} entries`;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return `${Code[code]}: ${rawMessage}`;
  }
}

async function register(node: NodeProcess, port: number): Promise<void> {
  const entries = Array.from({ length: NAMES }, (_, i) => ({
    key: { kind: 1, namespace: namespaceOf(i), name: "web", instanceId: "1" },
    scope: Scope.ZONE,
    targets: [{ host: "192.0.2.1", port }],
  }));
  await clientOf(node).register({ entries, staticLease: true });
}

function startResolver(node: NodeProcess, id: string, ...flags: readonly string[]): Promise<NodeProcess> {
  return startNodeProcess(["--mode", "resolver", "--upstream", node.grpc, "--ephemeral", "--node-id", id, "--config", CONFIG, ...flags]);
}

/** Lookups of all names, of which none waits for another; and once more when the resolver knows that nobody answers it, and all that it has is past its time. */
async function throughFreeze(asked: Asked): Promise<void> {
  const beganMonoMs = performance.now();
  const lookups: Promise<{ readonly isStale: boolean }>[] = [];
  // Before the resolver can know: the first is answered by it while it waits for the node, and before its program gives up.
  const early = [asked.tooOld(0), asked.unknown("early")];
  await until("the resolver gives its node up, and all that it has is past its time", async () => {
    const passedMs = performance.now() - beganMonoMs;
    for (let i = 1 + lookups.length; i < NAMES && i <= passedMs / EACH_MS; i++) {
      const lookup = lookUp(asked, i);
      // It is looked at below.
      lookup.catch(() => {});
      lookups.push(lookup);
    }
    return passedMs > 3 * TTL_MS && (await asked.upstream()) === "";
  });
  const staleCount = (await Promise.all(lookups)).filter(({ isStale }) => isStale).length;
  expect(staleCount).toBeGreaterThan(0);
  // Now it tells at once what it has, and of nothing else that it is not there.
  for (const [i] of asked.fetchedMonoMs.entries()) expect(await lookUp(asked, i)).toEqual({ isStale: true });
  const [tooOld, unknown] = [/^Unavailable: too_stale/, /^(?:Unavailable: not_ready|DeadlineExceeded: deadline_exceeded)/];
  expect(await asked.tooOld(0)).toMatch(tooOld);
  expect(await asked.unknown("late")).toMatch(/^Unavailable: not_ready/);
  expect(await Promise.all(early)).toEqual([expect.stringMatching(tooOld), expect.stringMatching(unknown)]);
}

test("while the only node stands still every lookup of what was fetched is answered, as stale; after that all is fresh, and as it is then", async () => {
  await using node = await startNodeProcess(["--ephemeral", "--node-id", "near"]);
  await register(node, 80);
  // One has no watch, and hears of the outage by its probes alone.
  await using parts = new AsyncDisposableStack();
  const starts = [startResolver(node, "blind"), startResolver(node, "watching", "--namespaces", "svc.market")];
  const askers = (await Promise.all(starts)).map((resolver) => new Asked(parts.use(resolver)));
  for (const asked of askers) await until("it reads the node", async () => (await asked.upstream()) !== "");
  await Promise.all(askers.map(async (asked) => Promise.all(Array.from({ length: NAMES }, (_, i) => fetchFirst(asked, i)))));

  node.command.kill("SIGSTOP");
  await Promise.all(askers.map(throughFreeze));
  node.command.kill("SIGCONT");
  await register(node, 81);
  for (const asked of askers)
    await until("all is fresh and as it is now", async () => {
      const answers = await Promise.all(Array.from({ length: NAMES }, (_, i) => asked.query(i)));
      return answers.every((answer) => told(answer).ports[0] === 81 && !answer.stale);
    });
});
