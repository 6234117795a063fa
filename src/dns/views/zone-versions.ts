/**
 * The versions of the zone, one count for each class of viewers: what SOA tells a secondary server (semantics.md, DNS). A change is noted for the
 * classes that see its namespace; a cut gives a new serial to those that have noted any, at most once a second.
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
/** Least time between two cuts. */
export const CUT_MS = 1000;
/** Most namespaces that are remembered to be seen by no class that is still to be cut, so that none is judged for each of its changes. */
const MAX_JUDGED = 4096;

/** Viewers that see the same. */
export interface ZoneClass {
  /** Names the class in the file, over restarts. */
  readonly key: string;
  readonly sees: (namespace: string) => boolean;
}

/** Serials by the key of the class. */
export type ClassSerials = ReadonlyMap<string, number>;

/**
 * The serial after `last`: max(last + 1, seconds since 1970), where "max" and the wrap at 2^32 are those of serial arithmetic (RFC 1982). So it never goes
 * back, also when the clock was set back.
 */
export function nextSerial(last: number | undefined, wallMs: number): number {
  const seconds = Math.floor(wallMs / 1000) % SERIALS;
  if (last === undefined) return seconds;
  return isNewer(seconds, last) ? seconds : (last + 1) % SERIALS;
}

/** Whether a serial is newer than another one (RFC 1982, 3.2). */
export function isNewer(serial: number, than: number): boolean {
  return ((serial - than) | 0) > 0;
}

export interface ZoneVersionsOptions {
  /** The first one is that of anonymous viewers. */
  readonly classes: readonly ZoneClass[];
  /** What was kept before this start; empty if nothing was. */
  readonly kept: ClassSerials;
  /** No serial before this start was newer than this; undefined if nothing is known of it. */
  readonly atLeast?: number | undefined;
  /** Where the serials that are told stand, by class. Other threads may read them there. */
  readonly told: Uint32Array;
}

export class ZoneVersions {
  readonly classes: readonly ZoneClass[];
  readonly #kept: ClassSerials;
  readonly #told: Uint32Array;
  /** The last serials that were cut, by class. They are told once they are kept. */
  readonly #cut: number[];
  readonly #isNoted: boolean[];
  #unnotedCount = 0;
  readonly #judged = new Set<string>();
  #cutMonoMs = Number.NEGATIVE_INFINITY;

  /** A start cuts a version for every class: what changed before it was perhaps not kept. Nothing is told before `tell`. */
  constructor({ classes, kept, atLeast, told }: ZoneVersionsOptions, wallMs: number) {
    this.classes = classes;
    this.#kept = kept;
    this.#told = told;
    // A class that is new may be an old one under another name, so it begins above all.
    const highest = [...kept.values()].reduce<number | undefined>((most, each) => newest(most, each), atLeast);
    this.#cut = classes.map(({ key }) => nextSerial(newest(kept.get(key) ?? highest, atLeast), wallMs));
    this.#isNoted = classes.map(() => false);
    this.#unnotedCount = classes.length;
  }

  /** Something in this namespace changed. Cost: a verdict for each class that has noted nothing yet, once a cut. */
  noteChange(namespace: string): void {
    if (this.#unnotedCount === 0 || this.#judged.has(namespace)) return;
    for (const [index, { sees }] of this.classes.entries()) if (!this.#isNoted[index] && sees(namespace)) this.noteFor(index);
    if (this.#judged.size >= MAX_JUDGED) this.#judged.clear();
    this.#judged.add(namespace);
  }

  /** Something changed that this class sees. */
  noteFor(index: number): void {
    if (this.#isNoted[index] !== false) return;
    this.#isNoted[index] = true;
    this.#unnotedCount -= 1;
  }

  /** What may have changed is not known. */
  noteEverything(): void {
    for (const index of this.classes.keys()) this.noteFor(index);
  }

  /** What classes see has changed, so that namespaces must be judged anew. */
  forgetVerdicts(): void {
    this.#judged.clear();
  }

  /** Whether every class has noted something, so that a further change adds nothing. */
  get isAllNoted(): boolean {
    return this.#unnotedCount === 0;
  }

  /** Cuts a version for the classes that have noted something. Returns the serials to keep; undefined when no class has, or a cut is less than a second ago. */
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

  /** The last serials that were cut, and those of classes from before this start. */
  get serials(): ClassSerials {
    const serials = new Map(this.#kept);
    for (const [index, { key }] of this.classes.entries()) {
      // Those in use come last, because a file has room for the last ones.
      serials.delete(key);
      serials.set(key, this.#cut[index] ?? 0);
    }
    return serials;
  }

  /** Tells the last serials that were cut. */
  tell(): void {
    for (const [index, serial] of this.#cut.entries()) Atomics.store(this.#told, index, serial);
  }
}

function newest(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return isNewer(one, other) ? one : other;
}

// The file with the serials of the zone, so that they do not go back at a restart: one line of JSON with a checksum.

/** Most serials in a file: those of all views, and of some that there were. */
const MAX_SERIALS = 256;
/** The largest file. A key has four ids of at most 128 characters. */
export const MAX_ZONE_FILE_BYTES = 1 << 20;
const FORMAT = 1;

/** The content of the file. Of more serials than it has room for, the last ones are kept. */
export function writeZoneFile(serials: ClassSerials): Uint8Array {
  const body = JSON.stringify([...serials].slice(-MAX_SERIALS));
  return new TextEncoder().encode(`${JSON.stringify({ format: FORMAT, sum: sha256Hex(body) })}\n${body}\n`);
}

/** The serials of a file. Undefined for anything else, also where one byte differs. */
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

// What happened to the catalog since it was looked at last, for the versions of the zone: changed records by namespace, and changes of the policy.

export interface ZoneChangesSources {
  readonly replica: Pick<Replica, "changesSince" | "collectedRevision" | "revision" | "slab" | "winner"> & {
    readonly lookup: Pick<EntryIndex, "namespaces">;
  };
  readonly reads: Pick<CatalogReads, "policy" | "policyRevision">;
  readonly policies: PolicySource;
  readonly dnsNames: Pick<DnsNames, "catchUp" | "claims">;
  readonly identity: { readonly clusterId: string };
}

/** Most verdicts that a change of policy is judged by. Where more would be needed, each class is taken to see a difference. */
const MAX_VERDICTS = 100_000;
/** Most records that are remembered by what DNS shows of them, those that changed last. The others count as changed with each touch. */
const MAX_REMEMBERED = 10_000;
/** Where every class has noted something, at most so many changes are looked at, so that the next one of these records is known for what it is. */
const MAX_LOOKED = 1000;
/** Hexadecimal digits of what DNS shows of a record. */
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
  /** What DNS shows of records that changed lately. The one that changed last is the last. */
  readonly #shown: BoundedMap<KeyText, string>;
  readonly #bounds: ZoneChangesBounds;
  /** The classes for which the last change of policy makes a difference. Some of it shows only when all records follow the policy, which is another edition. */
  #affected: readonly number[] = [];

  /** What is there now counts as looked at. */
  constructor(sources: ZoneChangesSources, viewers: readonly Caller[], bounds = BOUNDS) {
    this.#sources = sources;
    this.#bounds = bounds;
    this.#shown = new BoundedMap(bounds.maxRemembered);
    this.#viewers = viewers;
    this.#revision = sources.replica.revision;
    this.#version = sources.reads.policyRevision;
    this.#policy = sources.policies.policy;
  }

  /** Notes what happened since the last call. Cost: the changed records, and of at most `maxLooked` once every class has noted something. */
  look(versions: ZoneVersions): void {
    this.#lookAtPolicy(versions);
    this.#lookAtRecords(versions);
  }

  #lookAtRecords(versions: ZoneVersions): void {
    const { replica } = this.#sources;
    const since = this.#revision;
    if (replica.revision === since) return;
    this.#revision = replica.revision;
    // Records that were dropped since then have left no change behind.
    if (since < replica.collectedRevision) {
      this.#shown.clear();
      return versions.noteEverything();
    }
    let lookedCount = 0;
    replica.changesSince(since, (stored) => {
      if (lookedCount++ >= this.#bounds.maxLooked && versions.isAllNoted) {
        // What is not looked at now may be as it was before at the next look, and something else meanwhile.
        this.#shown.clear();
        return false;
      }
      const winner = replica.winner(stored);
      if (winner === undefined) this.#shown.delete(stored.key);
      const isOther = winner !== undefined && this.#isOther(winner);
      // What nobody saw and nobody sees is no change: a stranger's record that owner rules keep hidden, for example.
      if (stored.filterRevision > since || isOther) versions.noteChange(stored.namespace);
      return true;
    });
  }

  /** Whether DNS may show another thing of the record than when it was looked at last. Load is in no answer, so a report of it changes nothing. */
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

  /** The classes that see a namespace or an alias only under one of two policies, or a namespace whose owners change. */
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
      // What an alias stands for may lie where no entry is.
      const isTold = (claim: ParsedAliasClaim, policy: Policy, sees: (namespace: string) => boolean) =>
        sees(claim.namespace) &&
        hiddenAbove(claim.name, policy, sees) === undefined &&
        isClaimRightful(claim, policy, this.#sources.identity.clusterId);
      const isAffected = differs || claims.some((claim) => isTold(claim, before, sawBefore) !== isTold(claim, after, seesAfter));
      return isAffected ? [index] : [];
    });
  }
}
