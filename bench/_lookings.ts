/** Programs beside resolvers: what they look up there, and what they are answered. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { EntryKind, EntrySchema, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { Source } from "../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogQueryRequestSchema, CatalogQueryResponseSchema, RegisterRequestSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { CacheStatsRequestSchema, CacheStatsResponseSchema } from "../gen/waymark/resolver/v1/resolver_pb.js";
import type { Node } from "./_processes.ts";
import { percentile } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { exactQuery, INSTANCES, keyOf, PATH, shapeOf } from "./_work.ts";

/** Between two looks at each resolver: a lookup of each kind, and whether it has an upstream. */
export const LOOK_MS = 100;
/** Whoever waits longer has given up: the lookup failed. */
export const MAX_WAIT_MS = 2000;
/**
 * Namespaces of one service each that no resolver is configured to follow. Each is asked for once in ten seconds, too seldom to be followed, so it stays
 * fetched.
 */
export const FAR_NAMESPACES = 100;
const STATS_PATH = "/waymark.resolver.v1.ResolverService/CacheStats";
const STATS = toBinary(CacheStatsRequestSchema, create(CacheStatsRequestSchema, {}));
const FAR_SERVICE = keyOf(0).name;

function farNamespace(i: number): string {
  return `svc.far-${i % FAR_NAMESPACES}`;
}

/** A RegisterRequest of the service of one of these namespaces. It has scope ZONE: what was fetched of that is good for the shortest time. */
export function farBytes(i: number): Uint8Array {
  const entries = Array.from({ length: INSTANCES }, (_, k) => {
    const { host, port, tags } = shapeOf(k);
    return create(EntrySchema, {
      key: { kind: EntryKind.SERVICE, namespace: farNamespace(i), ...keyOf(k) },
      scope: Scope.ZONE,
      targets: [{ host, port, protocol: "grpc", weight: 10 }],
      tags,
    });
  });
  return toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { entries, staticLease: true }));
}

/** What is there under the name, of whatever kind. */
function farQuery(i: number): Uint8Array {
  return toBinary(CatalogQueryRequestSchema, create(CatalogQueryRequestSchema, { namespace: farNamespace(i), names: [FAR_SERVICE] }));
}

/** Lookups of one kind in a window of time. */
class Lookups {
  readonly #wire: Wire;
  readonly #source: Source;
  /** Of each that was answered or failed. */
  tookMs: number[] = [];
  /** Refused, incomplete, or not answered in time. */
  failed = 0;
  /** Answers that came from elsewhere than they were to. */
  elsewhere = 0;

  constructor(wire: Wire, source: Source) {
    this.#wire = wire;
    this.#source = source;
  }

  begin(): void {
    [this.tookMs, this.failed, this.elsewhere] = [[], 0, 0];
  }

  async ask(query: Uint8Array): Promise<void> {
    const startMs = performance.now();
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error("no answer in time")), MAX_WAIT_MS);
    try {
      const bytes = await Promise.race([this.#wire.unary(PATH.query, query), late.promise]);
      this.tookMs.push(performance.now() - startMs);
      const { items, source } = fromBinary(CatalogQueryResponseSchema, bytes);
      if (items.length !== INSTANCES) this.#fail(`${items.length} of ${INSTANCES} entries, ${Source[source]}`);
      if (source !== this.#source) this.elsewhere += 1;
    } catch (error) {
      this.tookMs.push(performance.now() - startMs);
      this.#fail(String(error));
    } finally {
      clearTimeout(timer);
    }
  }

  #fail(why: string): void {
    this.failed += 1;
    console.error(`${new Date().toISOString()} a lookup failed: ${why}`);
  }
}

/** What was looked up of one kind at all resolvers. */
export function toldOf(lookups: readonly Lookups[]) {
  const tookMs = lookups.flatMap((one) => one.tookMs);
  return {
    asked: tookMs.length,
    failed: lookups.reduce((sum, { failed }) => sum + failed, 0),
    elsewhere: lookups.reduce((sum, { elsewhere }) => sum + elsewhere, 0),
    p50Ms: percentile(tookMs, 0.5),
    p99Ms: percentile(tookMs, 0.99),
  };
}

/** Looks something up at a resolver all the time, and notes when it is as its upstream is. */
export class Looking {
  readonly #wire: Wire;
  readonly #timer: NodeJS.Timeout;
  readonly #services: number;
  #asked: number;
  /** In what the resolver follows, */
  readonly followed: Lookups;
  /** and by names that it fetched. */
  readonly fetched: Lookups;
  backMs: number | undefined;
  resyncs = 0;

  private constructor(wire: Wire, services: number, first: number) {
    this.#wire = wire;
    this.#services = services;
    this.#asked = first;
    this.followed = new Lookups(wire, Source.FOLLOWED);
    this.fetched = new Lookups(wire, Source.FETCHED);
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
  }

  /**
   * Asks for each of the fetched names once, and then looks up all the time: the first `services` of what is followed, and what is fetched from number
   * `first` on.
   */
  static async open(server: Node, services: number, first: number): Promise<Looking> {
    const wire = await Wire.open(server.grpc);
    for (let i = 0; i < FAR_NAMESPACES; i++) await wire.unary(PATH.query, farQuery(first + i));
    return new Looking(wire, services, first);
  }

  begin(): void {
    this.followed.begin();
    this.fetched.begin();
    this.backMs = undefined;
  }

  async #look(): Promise<void> {
    const i = this.#asked++;
    await this.followed.ask(exactQuery(i % this.#services));
    await this.fetched.ask(farQuery(i));
    const isBack = await this.#isWithUpstream().catch(() => false);
    if (isBack) this.backMs ??= Date.now();
  }

  async #isWithUpstream(): Promise<boolean> {
    const { upstream, lag, resyncs } = fromBinary(CacheStatsResponseSchema, await this.#wire.unary(STATS_PATH, STATS));
    this.resyncs = Object.values(resyncs).reduce((sum, count) => sum + Number(count), 0);
    return upstream !== "" && lag !== undefined && durationMs(lag) === 0;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#wire.close();
  }
}
