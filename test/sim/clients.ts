/** Clients: each registers one entry at a node, renews it, moves and unregisters. A client tries until its wish is acknowledged. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { StampedEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { BODY, HEALTH, type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import type { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { endsBeforeHlc } from "../../src/catalog/replica/view.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { Rng } from "../../src/lib/rng.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import type { Checks } from "./checks.ts";
import type { Model } from "./model.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";
import { LOAD_INTERVAL_MS } from "./sim-settings.ts";
import type { World } from "./world.ts";

export const NAMESPACES = ["svc", "svc.eu", "svc-x", "other"] as const;

/** Contents of an entry. Each differs from the first in a field that filters read, apart from the last. */
const VARIANTS: readonly MessageInitShape<typeof EntrySchema>[] = [
  { tags: ["blue"], health: HEALTH.HEALTHY },
  { tags: ["green"], health: HEALTH.HEALTHY },
  { tags: ["blue"], health: HEALTH.DEGRADED },
  { tags: ["blue"], capabilities: ["grpc"] },
  { tags: ["blue"], metadata: { note: "x".repeat(200) } },
];

/** How far a write is stamped above the newest word about its key. */
const DRAWN_STEPS = 1024;

/** A client gives a call up after this time. A node does not begin it later. */
const CALL_MS = 2000;
const RETRY_MS = 400;
/** Time until a call is at its node. */
const HANDOVER_MS = 5;
/** A client looks for another node after this many failures in a row. */
const PATIENCE = 3;

export interface Wish {
  readonly state: "present" | "gone";
  readonly node: number;
  readonly variant: number;
  readonly scope: Scope;
  /** 0 means a static entry. */
  readonly ttlMs: number;
}

export interface ClientParts {
  readonly world: World;
  readonly nodes: readonly SimNode[];
  readonly model: Model;
  readonly checks: Checks;
  readonly rng: Rng;
}

export class Client {
  readonly index: number;
  readonly #parts: ClientParts;
  readonly #caller: Caller;
  readonly #rng: Rng;
  readonly #stampedEntries = new Map<string, StampedEntry>();
  wish: Wish | undefined;
  /** Whether a node has acknowledged the wish. */
  isAcknowledged = false;
  /** Whether the client crashed, so that nobody renews its lease. */
  isAbandoned = false;
  /** Whether the policy refuses the wish. */
  isRefused = false;
  /** Grows with every new wish, so that an answer to an older one is known as such. */
  #turn = 0;
  #failures = 0;
  /** Whether its node accepts nothing new, so that it registers on another one at once. */
  #mustMove = false;
  /** How it stays on its node although that reports the lease as expired: it renews the lease, or tries to register again there. */
  stubbornness: "registers" | "renews" | undefined;
  #lease: { readonly id: string; readonly node: number; readonly process: SimProcess; isInTime: boolean; sentMs: number } | undefined;
  #reports = 0;
  /** The last load that other nodes were told of although the health had not changed. */
  #loadTold: { readonly process: SimProcess; readonly key: KeyText; readonly monoMs: number } | undefined;
  /** The stamp of what was acknowledged last. */
  #stamp = 0;

  constructor(index: number, parts: ClientParts) {
    this.index = index;
    this.#parts = parts;
    this.#rng = parts.rng.fork(`client ${index}`);
    this.#caller = { ...anonymousCaller("", "127.0.0.1", []), principal: `p${index}` };
  }

  get namespace(): string {
    return NAMESPACES[this.index % NAMESPACES.length] ?? "svc";
  }

  /** The key as the cluster of a node has it. */
  keyAt(node: SimNode): KeyText {
    const { clusterId } = node.options;
    return keyText({ kind: KIND.SERVICE, namespace: this.namespace, name: `n${this.index % 5}`, instanceId: `i${this.index}`, clusterId });
  }

  /** The key that was last asked for. */
  get key(): KeyText | undefined {
    const node = this.wish === undefined ? undefined : this.#parts.nodes[this.wish.node];
    return node === undefined ? undefined : this.keyAt(node);
  }

  // ---- what the workload says ----

  want(wish: Wish): void {
    this.isAbandoned = false;
    this.#turn += 1;
    this.#failures = 0;
    this.#wish(wish);
    this.#try(this.#turn);
  }

  abandon(): void {
    this.#turn += 1;
    this.isAbandoned = true;
    this.#unsure();
  }

  /** Reports another health with the next renewal. */
  report(health: 1 | 2 | 3): void {
    const { wish } = this;
    if (wish?.state !== "present" || !this.isAcknowledged || this.#lease === undefined || this.isAbandoned) return;
    const [turn, lease] = [this.#turn, this.#lease];
    // The load is in another band each time.
    const utilization = (this.#reports++ % 4) / 4;
    this.#ask(lease.node, (process) => {
      const key = this.keyAt(process.node);
      const before = process.replica.own(key);
      const time = process.time();
      const load = { activeClients: health, errorRate: 0, latencyMs: health * 20, utilization, observedWallMs: time.wallMs };
      process.registrar.renew(this.#caller, [lease.id], [{ key, path: "", health, load }], time);
      const after = process.replica.own(key);
      if (after !== undefined && after !== before) this.#parts.model.asked(key, after.hlc);
      const isLoadTold = after !== before && before?.health === health;
      if (isLoadTold) this.#checkLoad(process, key);
      return (isDurable) => {
        if (isLoadTold && turn === this.#turn) this.#loadTold = isDurable ? { process, key, monoMs: time.monoMs } : undefined;
        // A restored backup may bring back a lease that the client gave up for a static entry. That promises nothing about the entry.
        if (isDurable && turn === this.#turn && after !== undefined && wish.ttlMs > 0) this.#promise(process, after.hlc);
      };
    });
  }

  /** Checks that a load is not told to others too often (semantics.md, Load). */
  #checkLoad(process: SimProcess, key: KeyText): void {
    const told = this.#loadTold;
    this.#loadTold = undefined;
    if (told?.process !== process || told.key !== key) return;
    const sinceMs = process.time().monoMs - told.monoMs;
    this.#parts.checks.holds(
      sinceMs >= LOAD_INTERVAL_MS,
      "load",
      () => `${process.node.name} tells the load of ${key} again after ${sinceMs} ms`,
    );
  }

  #wish(wish: Wish): void {
    this.#loadTold = undefined;
    const { key: before } = this;
    this.wish = wish;
    this.isAcknowledged = false;
    this.isRefused = false;
    if (before !== undefined) this.#parts.model.promised.delete(before);
    this.#unsure();
  }

  #unsure(): void {
    const { key } = this;
    if (key !== undefined) this.#parts.model.promised.delete(key);
    this.isAcknowledged = false;
  }

  // ---- calls ----

  #try(turn: number): void {
    const { wish } = this;
    if (turn !== this.#turn || wish === undefined) return;
    if (wish.state === "present") this.#register(turn, wish);
    else this.#unregister(turn, wish);
  }

  #register(turn: number, wish: Wish): void {
    const isAsked = this.#ask(wish.node, (process, askedMs) => {
      // As the handler of Register asks (`checkNew`).
      const key = this.keyAt(process.node);
      const time = process.time();
      if (process.machine.drain.isCordoned) {
        process.registrar.renewKeys(this.#caller, [key], time);
        if (this.stubbornness !== "registers") throw new WaymarkError("draining", "the node accepts nothing new");
        return () => {
          if (turn !== this.#turn) return;
          // The entry stays, because its client has called its node.
          this.#promise(process, this.#stamp);
          this.#parts.world.after(RETRY_MS, () => this.#try(turn));
        };
      }
      const command = { stampedEntries: [this.#draftAt(process, wish)], leaseId: "", idempotencyKey: "" };
      const ttl = { ttlMs: wish.ttlMs === 0 ? undefined : wish.ttlMs, isStatic: wish.ttlMs === 0 };
      const before = process.replica.own(key);
      const { leaseId } = process.registrar.register(this.#caller, { ...command, ...ttl }, time);
      const own = process.replica.own(key);
      if (own !== undefined && own !== before) this.#checkStamp(process, own, before);
      if (own !== undefined) this.#parts.model.asked(key, own.hlc);
      return (isDurable) => {
        if (turn !== this.#turn) return;
        if (!isDurable) {
          this.#again(turn);
          return;
        }
        this.#failures = 0;
        this.#lease = { id: leaseId, node: wish.node, process, isInTime: true, sentMs: askedMs };
        this.#promise(process, own?.hlc ?? 0);
        if (wish.ttlMs > 0) this.#renewLater(turn, wish);
      };
    });
    isAsked.catch = () => this.#again(turn);
  }

  /** A write is stamped by its node's clock, or just above what shows the key or ends it by name: the end of a lease draws nothing after it. */
  #checkStamp({ node, replica, hlc }: SimProcess, own: StoredRecord, before: StoredRecord | undefined): void {
    const said = before === undefined ? replica.records(own.key) : [...replica.records(own.key), before];
    const drawnBy = said.map((record) => (record.body === BODY.EXPIRED ? endsBeforeHlc(record) : record.hlc));
    const boundHlc = Math.max(hlc.last(), Math.max(0, ...drawnBy) + DRAWN_STEPS);
    this.#parts.checks.holds(
      own.hlc <= boundHlc,
      "stamp",
      () => `${node.name} stamps ${own.key} ${own.hlc}, ${own.hlc - boundHlc} too high`,
    );
  }

  #promise(process: SimProcess, hlc: number): void {
    const { wish } = this;
    if (wish === undefined) return;
    this.isAcknowledged = true;
    this.isRefused = false;
    this.#stamp = hlc;
    const { state, scope, ttlMs } = wish;
    this.#parts.model.promised.set(this.keyAt(process.node), {
      state,
      scope,
      isStatic: ttlMs === 0,
      node: process.node.index,
      originId: process.replica.self.id,
      hlc,
    });
  }

  #renewLater(turn: number, wish: Wish): void {
    const { world } = this.#parts;
    world.after((wish.ttlMs / 3) * (0.8 + 0.4 * this.#rng.next()), () => this.#renew(turn, wish));
  }

  #renew(turn: number, wish: Wish): void {
    const lease = this.#lease;
    if (turn !== this.#turn || lease === undefined) return;
    const { world, checks } = this.#parts;
    // The renewal reaches its node whatever becomes of the call. It was in time also when the node is frozen.
    if (world.nowMs + HANDOVER_MS - lease.sentMs >= wish.ttlMs) lease.isInTime = false;
    lease.sentMs = world.nowMs;
    const asked = this.#ask(lease.node, (process) => {
      const { expiredLeaseIds } = process.registrar.renew(this.#caller, [lease.id], [], process.time());
      const hasRunOut = process === lease.process && process.leases.ranOut.has(lease.id);
      checks.holds(!(lease.isInTime && hasRunOut), "lease", () => `lease ${lease.id} of ${wish.ttlMs} ms ran out though renewed in time`);
      return () => {
        if (turn !== this.#turn) return;
        this.#failures = 0;
        if (expiredLeaseIds.length === 0 || this.stubbornness === "renews") {
          this.#promise(process, this.#stamp);
          this.#renewLater(turn, wish);
        } else {
          this.#unsure();
          this.#try(turn);
        }
      };
    });
    asked.catch = () => {
      if (turn !== this.#turn) return;
      this.#failures += 1;
      // The lease may have run out before the node is back.
      this.#unsure();
      if (this.#failures < PATIENCE) this.#parts.world.after(RETRY_MS, () => this.#renew(turn, wish));
      else this.#again(turn);
    };
  }

  #unregister(turn: number, wish: Wish): void {
    const asked = this.#ask(wish.node, (process) => {
      const key = this.keyAt(process.node);
      const { length: count } = process.registrar.unregisterKeys(this.#caller, [key], process.time());
      const own = process.replica.own(key);
      // The end of a LOCAL entry ended nothing at other nodes.
      const hlc = count > 0 && own !== undefined && own.reach !== SCOPE.LOCAL ? own.hlc : 0;
      return (isDurable) => {
        if (turn !== this.#turn) return;
        if (!isDurable) this.#again(turn);
        else if (hlc > this.#parts.model.newestHlc(key)) {
          this.#parts.model.asked(key, hlc);
          this.#promise(process, hlc);
        } else {
          // The entry is unknown here, or stamped later than its end. Then nothing is promised.
          this.isAcknowledged = true;
        }
      };
    });
    asked.catch = () => this.#again(turn);
  }

  /** Tries again, at another node when this one does not answer. */
  #again(turn: number): void {
    const { wish } = this;
    if (turn !== this.#turn || wish === undefined) return;
    this.#failures += 1;
    this.#unsure();
    if (this.#failures >= PATIENCE || this.#mustMove) {
      this.#mustMove = false;
      const { nodes } = this.#parts;
      const home = nodes[wish.node]?.options.clusterId;
      // The node is of the same cluster, because the key would be another one elsewhere.
      // The refusal of a cordoned node names others that are not.
      const others = nodes.filter(({ index, process, options }) => {
        const isOpen = process?.machine.drain.isCordoned === false;
        return index !== wish.node && isOpen && options.clusterId === home;
      });
      const other = others.length === 0 ? undefined : others[this.#rng.int(others.length)];
      if (other !== undefined) {
        this.#failures = 0;
        this.wish = { ...wish, node: other.index };
      }
    }
    this.#parts.world.after(RETRY_MS * (1 + this.#rng.next()), () => this.#try(turn));
  }

  /** Calls a node. `run` stages a change and returns what is done when that is durable. `catch` is called when the call fails. */
  #ask(index: number, run: (process: SimProcess, askedMs: number) => (isDurable: boolean) => void): { catch: () => void } {
    const { world, nodes } = this.#parts;
    const ask = { catch: () => undefined as void };
    let isOver = false;
    const fail = () => {
      if (isOver) return;
      isOver = true;
      ask.catch();
    };
    const node = nodes[index];
    const askedMs = world.nowMs;
    world.after(1 + this.#rng.next() * 3, () => {
      const process = node?.process;
      if (node === undefined || process === undefined || process.isStopped || process.isClosed) {
        world.after(1, fail);
        return;
      }
      world.after(CALL_MS, fail);
      node.enqueue(() => {
        if (isOver || process.isStopped || process.isClosed) return;
        try {
          const done = run(process, askedMs);
          process.durable((isDurable) => {
            if (isOver) return;
            isOver = true;
            done(isDurable);
          });
          process.arm();
        } catch (error) {
          if (!(error instanceof WaymarkError)) throw error;
          // No write can get a stamp above the newest one allowed.
          this.#mustMove = error.reason === "draining";
          this.isRefused = error.reason === "discovery_access_denied" || error.reason === "clock_skew";
          fail();
        }
      });
    });
    return ask;
  }

  #draftAt(process: SimProcess, { variant, scope }: Wish): StampedEntry {
    const { nodeId, clusterId, region, zone } = process.node.options;
    const name = `${nodeId} ${variant} ${scope}`;
    let stamped = this.#stampedEntries.get(name);
    if (stamped === undefined) {
      const entry = create(EntrySchema, VARIANTS[variant % VARIANTS.length]);
      entry.key = create(EntryKeySchema, {
        kind: KIND.SERVICE,
        namespace: this.namespace,
        name: `n${this.index % 5}`,
        instanceId: `i${this.index}`,
      });
      entry.scope = scope;
      stamped = process.stamper.entryOf(entry, 0, { nodeId, clusterId, region, zone, tenantId: "", receivedWallMs: 0 });
      this.#stampedEntries.set(name, stamped);
    }
    return stamped;
  }
}
