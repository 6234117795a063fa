/** Clients of a cluster that remember what they were promised, and whether the cluster keeps it. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Rng } from "../../src/lib/rng.ts";
import { type Answer, type GrpcDoor, textOf } from "./node.ts";
import { PATIENCE_MS, until } from "./until.ts";

const NAMES_A_CLIENT = 25;
const LONG_TTL = "600s";
/** Of leases that are kept by renewing them. */
const KEPT_TTL = "20s";
const RENEW_EVERY_STEPS = 10;

/** Nodes that clients may ask, any of them. */
export interface LoadedCluster {
  readonly running: readonly { readonly name: string; readonly door: GrpcDoor }[];
  /** Name to entry, of everything that a node shows. */
  dump(name: string): Promise<ReadonlyMap<string, JsonObject>>;
}

export interface LoadOptions {
  readonly clientCount?: number;
  /** Names of clients begin with it. */
  readonly prefix?: string;
  /** Of leases that nobody renews and that must not end. */
  readonly longTtl?: string;
  /** How far a name is published. */
  readonly scopeOf?: (name: string) => string;
}

interface Kept {
  readonly name: string;
  version: number;
  leaseId: string;
  at: string;
}

/** One client: its calls follow each other, each at a node of its own choice, and are repeated elsewhere until one is answered. */
class LoadClient {
  readonly #cluster: LoadedCluster;
  readonly #id: string;
  readonly #rng: Rng;
  readonly #longTtl: string;
  readonly #scopeOf: (name: string) => string;
  /** Name to the node that acknowledged the last word about it. */
  readonly #saidAt = new Map<string, string>();
  /** Name to the version last acknowledged; undefined when it is gone for sure. */
  readonly expected = new Map<string, number | undefined>();
  /** Names taken out by a call of which nobody knows whether it was carried out. */
  readonly #unsure = new Set<string>();
  readonly #kept: Kept;
  /** Registered once with the shortest lease, and left alone. */
  readonly brief: string[] = [];
  #version = 0;
  #stepCount = 0;
  /** Whose answer it waits for. */
  asks = "";
  readonly counts = { put: 0, removed: 0, renewed: 0, again: 0 };

  constructor(cluster: LoadedCluster, id: string, rng: Rng, { longTtl = LONG_TTL, scopeOf = () => "SCOPE_UNSPECIFIED" }: LoadOptions) {
    this.#cluster = cluster;
    this.#id = id;
    this.#rng = rng;
    this.#longTtl = longTtl;
    this.#scopeOf = scopeOf;
    this.#kept = { name: `${id}-kept`, version: 0, leaseId: "", at: "" };
  }

  async step(): Promise<void> {
    this.#stepCount += 1;
    if (this.#stepCount % RENEW_EVERY_STEPS === 1) return this.#renew();
    const name = `${this.#id}-${this.#rng.uint32() % NAMES_A_CLIENT}`;
    const dice = this.#rng.next();
    if (dice < 0.05) {
      const brief = `${this.#id}-brief-${this.#stepCount}`;
      this.brief.push(brief);
      await this.#register(brief, 1, { ttl: "2s" });
    } else if (dice < 0.3 && this.expected.get(name) !== undefined) await this.#remove(name);
    else await this.#put(name);
  }

  /** That node lost its disk: what it alone had acknowledged may be known nowhere. */
  lost(nodeName: string): void {
    for (const [name, at] of this.#saidAt) if (at === nodeName && name !== this.#kept.name) this.#unsure.add(name);
  }

  /** Settles what is unsure, and keeps its lease for long: nobody renews any more. */
  async settle(): Promise<void> {
    for (const name of this.#unsure)
      if (this.brief.includes(name)) await this.#ask("unregister", { keys: [keyOf(name)] });
      else await this.#put(name);
    this.#unsure.clear();
    await this.#hold(this.#longTtl);
  }

  /** Keeps its lease, or takes a new one somewhere else. */
  async #renew(): Promise<void> {
    const kept = this.#kept;
    const node = this.#cluster.running.find(({ name }) => name === kept.at);
    this.asks = node?.name ?? "";
    const answer = await node?.door.ask("renew", { leaseIds: [kept.leaseId] });
    this.asks = "";
    const isHeld = answer?.code === "OK" && ((answer.response["expiredLeaseIds"] ?? []) as string[]).length === 0;
    if (isHeld) {
      this.counts.renewed += 1;
      return;
    }
    await this.#hold(KEPT_TTL);
  }

  async #hold(ttl: string): Promise<void> {
    const kept = this.#kept;
    kept.version += 1;
    const { at, response } = await this.#register(kept.name, kept.version, { ttl });
    kept.at = at;
    kept.leaseId = textOf(response["leaseId"]);
    this.expected.set(kept.name, kept.version);
  }

  async #put(name: string): Promise<void> {
    this.#version += 1;
    await this.#register(name, this.#version, { ttl: this.#longTtl });
    this.expected.set(name, this.#version);
    this.#unsure.delete(name);
    this.counts.put += 1;
  }

  async #remove(name: string): Promise<void> {
    const { response, isFirst, at } = await this.#ask("unregister", { keys: [keyOf(name)] });
    if (Number(response["removed"] ?? 0) > 0) {
      this.#saidAt.set(name, at);
      this.expected.set(name, undefined);
      this.counts.removed += 1;
    } else if (!isFirst) this.#unsure.add(name);
    // Else that node did not know it yet, and nothing happened.
  }

  async #register(name: string, version: number, lease: JsonObject) {
    const entry = {
      key: keyOf(name),
      targets: [{ host: "10.0.0.1", port: 1 + (version % 60_000) }],
      metadata: { version: String(version) },
      scope: this.#scopeOf(name),
    };
    const answer = await this.#ask("register", { entries: [entry], ...lease });
    this.#saidAt.set(name, answer.at);
    return answer;
  }

  /** Asks one node after the other until one answers. */
  async #ask(rpc: "register" | "unregister", request: JsonValue): Promise<Answer & { readonly at: string; readonly isFirst: boolean }> {
    const end = performance.now() + PATIENCE_MS;
    for (let tries = 1; ; tries++) {
      const { running } = this.#cluster;
      const node = running[this.#rng.uint32() % Math.max(1, running.length)];
      this.asks = node?.name ?? "";
      const answer = await node?.door.ask(rpc, request);
      this.asks = "";
      if (node !== undefined && answer?.code === "OK") {
        await nextMillisecond();
        return { ...answer, at: node.name, isFirst: tries === 1 };
      }
      this.counts.again += 1;
      if (answer !== undefined && !["UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "UNKNOWN"].includes(answer.code))
        throw new Error(`${rpc} at ${node?.name}: ${answer.code} ${answer.message}`);
      if (performance.now() > end) throw new Error(`${rpc}: nobody answered: ${answer?.code} ${answer?.message}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function keyOf(name: string): JsonObject {
  return { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name, instanceId: "1" };
}

/** What a client does after an answer is later by everybody's clock; nodes of one machine share it. */
async function nextMillisecond(): Promise<void> {
  for (const now = Date.now(); Date.now() === now; ) await new Promise((resolve) => setImmediate(resolve));
}

/** Several clients at once, until they are told to stop. */
export class ClusterLoad {
  readonly #cluster: LoadedCluster;
  readonly #prefix: string;
  readonly #clients: readonly LoadClient[];
  #isOver = false;
  #running: Promise<unknown> = Promise.resolve();
  #fault: Error | undefined;

  constructor(cluster: LoadedCluster, seed: string, options: LoadOptions = {}) {
    const { clientCount = 4, prefix = "x" } = options;
    this.#cluster = cluster;
    this.#prefix = prefix;
    const rng = new Rng(seed);
    this.#clients = Array.from(
      { length: clientCount },
      (_, i) => new LoadClient(cluster, `${prefix}${i}`, rng.fork(`client ${i}`), options),
    );
  }

  /** Also again after a stop. */
  start(): void {
    this.#isOver = false;
    this.#running = Promise.all(this.#clients.map((client) => this.#run(client)));
    this.#running.catch((error: unknown) => (this.#fault = new Error("the load ended", { cause: error })));
  }

  /** How many calls were acknowledged so far. */
  get ackCount(): number {
    return this.#clients.reduce((sum, { counts }) => sum + counts.put + counts.removed + counts.renewed, 0);
  }

  /** For people. */
  get counts(): Readonly<Record<string, number>> {
    const sum = { put: 0, removed: 0, renewed: 0, again: 0 };
    for (const { counts } of this.#clients) for (const key of ["put", "removed", "renewed", "again"] as const) sum[key] += counts[key];
    return sum;
  }

  /** Waits for so many more acknowledged calls: the load goes on through what happens. */
  async progress(count: number): Promise<void> {
    const wanted = this.ackCount + count;
    await until(`${count} more calls`, () => {
      if (this.#fault !== undefined) throw this.#fault;
      return Promise.resolve(this.ackCount >= wanted ? [] : [`${wanted - this.ackCount} to go`]);
    });
  }

  /** Waits until nobody waits for an answer of that node: what it was asked is done, or never will be. */
  async isAnswered(nodeName: string): Promise<void> {
    await until(`${nodeName} has answered all`, () => this.#clients.every(({ asks }) => asks !== nodeName));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
    for (const client of this.#clients) await client.settle();
  }

  /** A node lost its disk; its clients do what they did there once more, by the next stop. */
  lost(nodeName: string): void {
    for (const client of this.#clients) client.lost(nodeName);
  }

  /** Names that must be there. */
  get names(): readonly string[] {
    return this.#clients.flatMap(({ expected }) => [...expected].flatMap(([name, version]) => (version === undefined ? [] : [name])));
  }

  /** Waits until every node holds just what was promised, all of them the same. */
  async isKept(): Promise<void> {
    await until("all nodes hold what was promised", async () => {
      const faults: string[] = [];
      const dumps = await Promise.all(this.#cluster.running.map(async ({ name }) => ({ name, held: await this.#cluster.dump(name) })));
      for (const { name, held } of dumps) faults.push(...this.#faultsOf(held).map((fault) => `${name}: ${fault}`));
      const [first, ...others] = dumps;
      for (const { name, held } of others)
        for (const [key, entry] of held)
          if (JSON.stringify(entry) !== JSON.stringify(first?.held.get(key)))
            faults.push(`${name} and ${first?.name} differ in ${key}: ${JSON.stringify(entry)}, ${JSON.stringify(first?.held.get(key))}`);
      return faults;
    });
  }

  #faultsOf(held: ReadonlyMap<string, JsonObject>): readonly string[] {
    const faults: string[] = [];
    const known = new Set<string>();
    for (const { expected } of this.#clients) {
      for (const [name, version] of expected) {
        known.add(name);
        const entry = held.get(name);
        const found = textOf((entry?.["metadata"] as JsonObject | undefined)?.["version"]);
        if (version === undefined && entry !== undefined) faults.push(`${name} is back: ${found}`);
        else if (version !== undefined && entry === undefined) faults.push(`${name} is lost`);
        else if (version !== undefined && found !== String(version)) faults.push(`${name} is ${found}, not ${version}`);
        else if (entry !== undefined && entry["health"] !== "HEALTH_STATUS_HEALTHY") faults.push(`${name} is ${textOf(entry["health"])}`);
      }
    }
    // What else is there had a lease that ended.
    for (const [name, entry] of held)
      if (name.startsWith(this.#prefix) && !known.has(name)) faults.push(`${name} is still there: ${JSON.stringify(entry)}`);
    return faults;
  }

  async #run(client: LoadClient): Promise<void> {
    while (!this.#isOver) {
      await client.step();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
