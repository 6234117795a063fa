/** A resolver without listeners on real sockets: its rooms, run by its driver. */

import { ANY } from "../../src/catalog/query/filter.ts";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { queryPage } from "../../src/catalog/query/query.ts";
import { keyParts } from "../../src/catalog/record/record.ts";
import { SNAPSHOT } from "../../src/catalog/watch/reader.ts";
import type { WaymarkError } from "../../src/lib/errors.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { UpstreamAccess } from "../../src/node/resolver/credentials.io.ts";
import { ResolverDriver } from "../../src/node/resolver/driver.io.ts";
import { observeResolver, resolverChecks } from "../../src/node/resolver/reports.ts";
import { openResolverRooms, type ResolverRooms } from "../../src/node/resolver/resolver-rooms.ts";
import { UpstreamCalls } from "../../src/node/resolver/upstream-calls.io.ts";
import type { StreamEvents, UpstreamStreamHandle } from "../../src/node/resolver/upstream-streams.io.ts";
import { readWatchMessage } from "../../src/resolver/codec.ts";
import type { AnswerQuality, ResolverOptions } from "../../src/resolver/io-types.ts";
import type { ResolverMachine } from "../../src/resolver/machine.ts";
import { coreProcess } from "./core-process.ts";

/** A watch that follows entries, and how many snapshots it began with so far. Watches that compare digests are not among them: their time is random. */
interface Watched {
  readonly upstream: string;
  readonly hasCursor: boolean;
  snapshotCount: number;
}

/** A call that was passed on, and the time that it was given. */
interface Passed {
  readonly upstream: string;
  readonly timeoutMs: number;
}

class WatchedCalls extends UpstreamCalls {
  readonly watches: Watched[] = [];
  readonly passed: Passed[] = [];

  override unary(...call: Parameters<UpstreamCalls["unary"]>): ReturnType<UpstreamCalls["unary"]> {
    const [upstream, , , timeoutMs] = call;
    this.passed.push({ upstream, timeoutMs });
    return super.unary(...call);
  }

  override openWatch(upstream: string, place: Parameters<UpstreamCalls["openWatch"]>[1], events: StreamEvents): UpstreamStreamHandle {
    const watched: Watched = { upstream, hasCursor: place.cursor !== "", snapshotCount: 0 };
    if (!place.withDigest) this.watches.push(watched);
    const received = (bytes: Uint8Array, delayMs: number) => {
      events.received(bytes, delayMs);
      if (isBegin(bytes)) watched.snapshotCount += 1;
    };
    return super.openWatch(upstream, place, { ...events, received });
  }
}

function isBegin(bytes: Uint8Array): boolean {
  try {
    return readWatchMessage(bytes).snapshot === SNAPSHOT.BEGIN;
  } catch {
    return false;
  }
}

const PLAIN: UpstreamAccess = { token: undefined, tls: undefined };

export class DrivenResolver implements Disposable {
  readonly rooms: ResolverRooms;
  readonly calls: WatchedCalls;
  readonly driver: ResolverDriver;
  readonly warnings: string[] = [];
  changeCount = 0;
  #passedMs = 0;

  constructor(upstreams: readonly string[], options: Partial<ResolverOptions> = {}, readAccess: () => UpstreamAccess = () => PLAIN) {
    const resolver: ResolverOptions = {
      name: "me",
      clusterId: "local",
      region: "local",
      upstreams,
      namespaces: ["svc"],
      maxWatches: 256,
      maxEntries: 10_000,
      maxBytes: 100_000_000,
      ttls: { zoneMs: 15_000, regionMs: 30_000, globalMs: 60_000, negativeMs: 15_000 },
      maxStaleMs: 3_600_000,
      guardHoldMs: 300_000,
      pruneIntervalMs: 30_000,
      seedOnStart: true,
      resyncIntervalMs: 300_000,
      random: Math.random,
      ...options,
    };
    const process = coreProcess({
      now: () => this.now,
      catalog: { tombstoneTtlMs: 60_000, minTombstones: 100 },
      zones: ["waymark."],
      clusterId: "local",
      region: "local",
    });
    const rooms = openResolverRooms({ ...process, nodeId: "me", generation: 1, resolver }, this.now);
    this.rooms = rooms;
    const onStaleToken = (fault: string) => this.warnings.push(fault);
    const onNewToken = () => this.driver.input({ kind: "credentials changed" });
    this.calls = new WatchedCalls({ name: "me", upstreamCount: upstreams.length, onStaleToken, onNewToken, readAccess });
    this.driver = new ResolverDriver({
      rooms,
      calls: this.calls,
      log: { warn: ({ upstream, detail }, message) => this.warnings.push(`${String(upstream)}: ${message}: ${String(detail)}`) },
      now: () => this.now,
      onChange: () => {
        this.changeCount += 1;
      },
      onResynced: () => {},
      onPolicyChanged: () => {
        rooms.switches.look();
        while (rooms.switches.isRunning) rooms.switches.step(1_000_000, this.now);
      },
    });
    this.driver.begin();
  }

  get machine(): ResolverMachine {
    return this.rooms.machine;
  }

  get now(): Time {
    return { monoMs: performance.now() + this.#passedMs, wallMs: Date.now() };
  }

  /** What a scrape of it finds. */
  get metrics(): Metrics {
    const metrics = new Metrics();
    observeResolver(metrics, this.machine, this.now);
    return metrics;
  }

  /** What a line of /readyz says of it. It serves as soon as it is ready. */
  readiness(line: string): string | undefined {
    const checks = resolverChecks(this.rooms, { isServing: this.machine.isReady, fault: this.driver.fault });
    return checks.find(({ name }) => name === line)?.detail;
  }

  /** As if so much time had passed. */
  pass(ms: number): void {
    this.#passedMs += ms;
    this.driver.input({ kind: "tick" });
  }

  /** Instance ids of what is held of a name now. */
  instances({ kind, namespace, name }: InstanceName): readonly string[] {
    const self = { nodeId: "", clusterId: "", region: "" };
    const filter = { ...ANY, namespace, names: [name], kindMask: 1 << kind };
    const of = { limit: 10_000, afterKey: "", self, allowed: () => true, explain: false };
    const records = this.machine.lookupsOf(namespace).flatMap((lookup) => queryPage(lookup, filter, of).records);
    return records.map(({ key }) => keyParts(key).instanceId).toSorted();
  }

  [Symbol.dispose](): void {
    this.driver.close();
  }
}

/** Asks for a name; a promise where the caller has to wait. */
export function askOf(driver: Pick<ResolverDriver, "ask">, name: InstanceName): AnswerQuality | Promise<AnswerQuality> {
  const { promise, resolve, reject } = Promise.withResolvers<AnswerQuality>();
  promise.catch(() => {});
  try {
    const told = (error: WaymarkError | undefined) =>
      error === undefined ? resolve({ source: "fetched", isStale: false, ageMs: 0 }) : reject(error);
    return driver.ask(name, {}, told) ?? promise;
  } catch (error) {
    reject(error);
    return promise;
  }
}
