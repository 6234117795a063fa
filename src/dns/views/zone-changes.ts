/** What happened to the catalog since it was looked at last, for the versions of the zone: changed records by namespace, and changes of the policy. */

import type { Lookup } from "../../catalog/query/lookup.ts";
import { type CatalogRecord, type KeyText, viewHealth } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Claim } from "../../discovery/alias-claim.ts";
import type { DnsNames } from "../../discovery/dns-names.ts";
import type { Reads } from "../../discovery/reads.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { sha256Hex } from "../../lib/crypto.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { differentOwners, type PolicySource, visibilityOf } from "../../policy/set/visibility.ts";
import { hiddenAbove, isClaimRightful } from "./alias-sight.ts";
import type { ZoneVersions } from "./zone-versions.ts";

export interface ZoneChangesSources {
  readonly replica: Pick<Replica, "changesSince" | "collectedRevision" | "revision" | "slab" | "winner"> & {
    readonly lookup: Pick<Lookup, "namespaces">;
  };
  readonly reads: Pick<Reads, "policy" | "policyEdition">;
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
  #edition: number;
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
    this.#edition = sources.reads.policyEdition;
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
    const edition = reads.policyEdition;
    if (edition === this.#edition) return;
    this.#edition = edition;
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
      const isTold = (claim: Claim, policy: Policy, sees: (namespace: string) => boolean) =>
        sees(claim.namespace) && hiddenAbove(claim.name, policy, sees) === undefined && this.#counts(claim, policy);
      const isAffected = differs || claims.some((claim) => isTold(claim, before, sawBefore) !== isTold(claim, after, seesAfter));
      return isAffected ? [index] : [];
    });
  }

  #counts(claim: Claim, policy: Policy): boolean {
    return isClaimRightful(claim, policy, this.#sources.identity.clusterId);
  }
}
