/**
 * Assigns zone serials, separately for each class of viewers. Secondary servers read the serials from the SOA (semantics.md, DNS). A change is
 * recorded for the classes that see its namespace. Each class with a recorded change gets a new serial, at most once per second.
 */
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { type CatalogRecord, type KeyText, viewHealth } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import type { DnsNames } from "../../discovery/dns-names.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { sha256Hex } from "../../lib/crypto.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { differentOwners, type PolicySource, visibilityOf } from "../../policy/set/verdict.ts";
import { hiddenAbove, isClaimRightful } from "./alias-visibility.ts";

const SERIALS = 0x1_0000_0000;
/** Minimum time between two serials. */
export const CUT_MS = 1000;
/** Maximum number of namespaces remembered as already processed since the last serial, so that the policy is not evaluated for each change. */
const MAX_JUDGED = 4096;

/** A class of viewers that see the same data. */
export interface ZoneClass {
  /** Identifies the class in the zone file, across restarts. */
  readonly key: string;
  readonly sees: (namespace: string) => boolean;
}

/** Serials by class key. */
export type ClassSerials = ReadonlyMap<string, number>;

/**
 * Returns the serial after `last`: max(last + 1, seconds since 1970), in serial number arithmetic modulo 2^32 (RFC 1982). The serial therefore never
 * decreases, even when the clock is set back.
 */
export function nextSerial(last: number | undefined, wallMs: number): number {
  const seconds = Math.floor(wallMs / 1000) % SERIALS;
  if (last === undefined) return seconds;
  return isNewer(seconds, last) ? seconds : (last + 1) % SERIALS;
}

/** Returns whether a serial is newer than another one (RFC 1982, 3.2). */
export function isNewer(serial: number, than: number): boolean {
  return ((serial - than) | 0) > 0;
}

export interface ZoneVersionsOptions {
  /** The first class is the class of anonymous viewers. */
  readonly classes: readonly ZoneClass[];
  /** The serials stored before this start. Empty if no serials were stored. */
  readonly kept: ClassSerials;
  /** Upper bound of all serials published before this start. Undefined when unknown. */
  readonly atLeast?: number | undefined;
  /** The published serials, by class. Other threads can read them here. */
  readonly told: Uint32Array;
}

export class ZoneVersions {
  readonly classes: readonly ZoneClass[];
  readonly #kept: ClassSerials;
  readonly #told: Uint32Array;
  /** The latest assigned serials, by class. Serials are published after they are stored. */
  readonly #cut: number[];
  readonly #isNoted: boolean[];
  #unnotedCount = 0;
  readonly #judged = new Set<string>();
  #cutMonoMs = Number.NEGATIVE_INFINITY;

  /**
   * Assigns a new serial to every class, because changes shortly before the start may not have been stored. Serials are published only when `tell` is
   * called.
   */
  constructor({ classes, kept, atLeast, told }: ZoneVersionsOptions, wallMs: number) {
    this.classes = classes;
    this.#kept = kept;
    this.#told = told;
    // A new class may be an old class with another key, so its serial starts above all stored serials.
    const highest = [...kept.values()].reduce<number | undefined>((most, each) => newest(most, each), atLeast);
    this.#cut = classes.map(({ key }) => nextSerial(newest(kept.get(key) ?? highest, atLeast), wallMs));
    this.#isNoted = classes.map(() => false);
    this.#unnotedCount = classes.length;
  }

  /** Records a change in this namespace. Its cost is one verdict for each class without a recorded change, once per namespace and serial. */
  noteChange(namespace: string): void {
    if (this.#unnotedCount === 0 || this.#judged.has(namespace)) return;
    for (const [index, { sees }] of this.classes.entries()) if (!this.#isNoted[index] && sees(namespace)) this.noteFor(index);
    if (this.#judged.size >= MAX_JUDGED) this.#judged.clear();
    this.#judged.add(namespace);
  }

  /** Records a change that this class sees. */
  noteFor(index: number): void {
    if (this.#isNoted[index] !== false) return;
    this.#isNoted[index] = true;
    this.#unnotedCount -= 1;
  }

  /** Records a change for every class, if the exact changes are unknown. */
  noteEverything(): void {
    for (const index of this.classes.keys()) this.noteFor(index);
  }

  /** Discards cached verdicts after a policy change. */
  forgetVerdicts(): void {
    this.#judged.clear();
  }

  /** Whether every class has a recorded change, so that further changes need no processing. */
  get isAllNoted(): boolean {
    return this.#unnotedCount === 0;
  }

  /**
   * Assigns new serials to the classes with a recorded change. Returns all serials, which the caller must store. Returns undefined when no class has
   * a recorded change or the last serial is less than a second old.
   */
  cut(time: { readonly monoMs: number; readonly wallMs: number }): ClassSerials | undefined {
    this.#judged.clear();
    if (this.#unnotedCount === this.classes.length || time.monoMs - this.#cutMonoMs < CUT_MS) return undefined;
    this.#cutMonoMs = time.monoMs;
    for (const [index, last] of this.#cut.entries()) {
      if (!this.#isNoted[index]) continue;
      this.#cut[index] = nextSerial(last, time.wallMs);
      this.#isNoted[index] = false;
    }
    this.#unnotedCount = this.classes.length;
    return this.serials;
  }

  /** The latest assigned serials, and the stored serials of classes that no longer exist. */
  get serials(): ClassSerials {
    const serials = new Map(this.#kept);
    for (const [index, { key }] of this.classes.entries()) {
      // Classes in use come last, because only the last serials are kept when the file is full.
      serials.delete(key);
      serials.set(key, this.#cut[index] ?? 0);
    }
    return serials;
  }

  /** Publishes the latest assigned serials. */
  tell(): void {
    for (const [index, serial] of this.#cut.entries()) Atomics.store(this.#told, index, serial);
  }
}

function newest(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return isNewer(one, other) ? one : other;
}

// The file that stores the zone serials, so that they do not decrease after a restart. It has a header line with a checksum and one line of JSON.

/** Maximum number of serials in a file: the serials of all current views and some former views. */
const MAX_SERIALS = 256;
/** Maximum size of the file. A key has four ids of at most 128 characters. */
export const MAX_ZONE_FILE_BYTES = 1 << 20;
const FORMAT = 1;

/** Returns the content of the file. If there are too many serials, the last ones are kept. */
export function writeZoneFile(serials: ClassSerials): Uint8Array {
  const body = JSON.stringify([...serials].slice(-MAX_SERIALS));
  return new TextEncoder().encode(`${JSON.stringify({ format: FORMAT, sum: sha256Hex(body) })}\n${body}\n`);
}

/** Returns the serials in a file. Returns undefined when the content is invalid or its checksum does not match. */
export function readZoneFile(bytes: Uint8Array): ClassSerials | undefined {
  const [head, body, end] = new TextDecoder().decode(bytes).split("\n");
  if (head === undefined || body === undefined || end !== "") return undefined;
  if (head !== JSON.stringify({ format: FORMAT, sum: sha256Hex(body) })) return undefined;
  const pairs: unknown = JSON.parse(body);
  if (!Array.isArray(pairs)) return undefined;
  const serials = new Map<string, number>();
  for (const pair of pairs) {
    const items: readonly unknown[] = Array.isArray(pair) ? pair : [];
    const [key, serial] = items;
    if (typeof key !== "string" || typeof serial !== "number" || serial !== serial >>> 0) return undefined;
    serials.set(key, serial);
  }
  return serials;
}

// Finds catalog changes since the last scan, for the zone serials: changed records by namespace, and policy changes.

export interface ZoneChangesSources {
  readonly replica: Pick<Replica, "changesSince" | "collectedRevision" | "revision" | "slab" | "winner"> & {
    readonly lookup: Pick<EntryIndex, "namespaces">;
  };
  readonly reads: Pick<CatalogReads, "policy" | "policyRevision">;
  readonly policies: PolicySource;
  readonly dnsNames: Pick<DnsNames, "catchUp" | "claims">;
  readonly identity: { readonly clusterId: string };
}

/** Maximum number of verdicts computed to compare two policies. If more verdicts would be needed, every class is treated as affected. */
const MAX_VERDICTS = 100_000;
/** Maximum number of recently changed records whose DNS content is remembered. All other records are treated as changed whenever they are touched. */
const MAX_REMEMBERED = 10_000;
/**
 * Maximum number of changes that are examined when every class already has a recorded change. Examining them keeps their remembered content current for the
 * next scan.
 */
const MAX_LOOKED = 1000;
/** Number of hexadecimal digits in a record's content hash. */
const SHOWN_CHARS = 32;

export interface ZoneChangesBounds {
  readonly maxRemembered: number;
  readonly maxLooked: number;
}

const BOUNDS: ZoneChangesBounds = { maxRemembered: MAX_REMEMBERED, maxLooked: MAX_LOOKED };

export class ZoneChanges {
  readonly #sources: ZoneChangesSources;
  /** One viewer of each class. */
  readonly #viewers: readonly Caller[];
  #revision: number;
  #version: number;
  #policy: Policy;
  /** The DNS content of recently changed records. The most recent one comes last. */
  readonly #shown: BoundedMap<KeyText, string>;
  readonly #bounds: ZoneChangesBounds;
  /**
   * The classes that the last policy change affects. They are recorded again when all records have been re-evaluated under the new policy, because
   * this also changes the policy revision.
   */
  #affected: readonly number[] = [];

  /** Marks the current state of the catalog as scanned. */
  constructor(sources: ZoneChangesSources, viewers: readonly Caller[], bounds = BOUNDS) {
    this.#sources = sources;
    this.#bounds = bounds;
    this.#shown = new BoundedMap(bounds.maxRemembered);
    this.#viewers = viewers;
    this.#revision = sources.replica.revision;
    this.#version = sources.reads.policyRevision;
    this.#policy = sources.policies.policy;
  }

  /**
   * Records the changes since the last call. The cost is proportional to the changed records, but at most `maxLooked` records when every class has a
   * recorded change.
   */
  look(versions: ZoneVersions): void {
    this.#lookAtPolicy(versions);
    this.#lookAtRecords(versions);
  }

  #lookAtRecords(versions: ZoneVersions): void {
    const { replica } = this.#sources;
    const since = this.#revision;
    if (replica.revision === since) return;
    this.#revision = replica.revision;
    // Records that were garbage-collected since then are not in the change log.
    if (since < replica.collectedRevision) {
      this.#shown.clear();
      return versions.noteEverything();
    }
    let lookedCount = 0;
    replica.changesSince(since, (stored) => {
      if (lookedCount++ >= this.#bounds.maxLooked && versions.isAllNoted) {
        // A skipped record can change now and change back before the next scan, so remembered content is no longer reliable.
        this.#shown.clear();
        return false;
      }
      const winner = replica.winner(stored);
      if (winner === undefined) this.#shown.delete(stored.key);
      const isOther = winner !== undefined && this.#isOther(winner);
      // A change to a record that was and remains hidden is ignored, for example a foreign record hidden by owner rules.
      if (stored.filterRevision > since || isOther) versions.noteChange(stored.namespace);
      return true;
    });
  }

  /**
   * Returns whether DNS may show different data for the record than at the last scan. Answers do not contain load, so a load report is not a change.
   */
  #isOther(record: CatalogRecord): boolean {
    const { key, origin, scope, at, contentBytes } = record;
    const content = sha256Hex(this.#sources.replica.slab.view(at, contentBytes)).slice(0, SHOWN_CHARS);
    const shown = `${content} ${viewHealth(record)} ${scope} ${origin.id}`;
    const before = this.#shown.get(key);
    this.#shown.set(key, shown);
    return before !== shown;
  }

  #lookAtPolicy(versions: ZoneVersions): void {
    const { reads, policies } = this.#sources;
    const version = reads.policyRevision;
    if (version === this.#version) return;
    this.#version = version;
    versions.forgetVerdicts();
    const { policy } = policies;
    if (policy !== this.#policy) {
      this.#affected = this.#affectedBy(this.#policy, policy);
      this.#policy = policy;
    }
    for (const index of this.#affected) versions.noteFor(index);
  }

  /** Returns the classes that see different namespaces or aliases under the two policies, or that see a namespace whose owners change. */
  #affectedBy(before: Policy, after: Policy): readonly number[] {
    const { replica, dnsNames } = this.#sources;
    const namespaces = replica.lookup.namespaces.list();
    dnsNames.catchUp();
    const most = Math.floor(MAX_VERDICTS / this.#viewers.length) - namespaces.length;
    const claims = [...dnsNames.claims().take(Math.max(0, most + 1))];
    if (claims.length > most) return [...this.#viewers.keys()];
    const owned = differentOwners(before, after);
    const isOwned = (namespace: string) =>
      owned.some((prefix) => prefix === "" || namespace === prefix || namespace.startsWith(`${prefix}.`));
    return [...this.#viewers.entries()].flatMap(([index, caller]) => {
      const [sawBefore, seesAfter] = [visibilityOf({ policy: before }, caller), visibilityOf({ policy: after }, caller)];
      const differs = namespaces.some((namespace) => {
        const sees = seesAfter(namespace);
        return sees !== sawBefore(namespace) || (sees && isOwned(namespace));
      });
      // An alias name may be in a namespace without entries.
      const isTold = (claim: ParsedAliasClaim, policy: Policy, sees: (namespace: string) => boolean) =>
        sees(claim.namespace) &&
        hiddenAbove(claim.name, policy, sees) === undefined &&
        isClaimRightful(claim, policy, this.#sources.identity.clusterId);
      const isAffected = differs || claims.some((claim) => isTold(claim, before, sawBefore) !== isTold(claim, after, seesAfter));
      return isAffected ? [index] : [];
    });
  }
}
