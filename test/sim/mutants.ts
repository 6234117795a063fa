/**
 * Bugs to plant: each breaks one rule that semantics.md marks with a *Why*, or one that a rule rests on. They are edits of the source,
 * made while it is loaded (`mutant-child.ts`), so that the source knows nothing of them; one that no longer fits fails its test.
 */
import { COPY_MUTANTS } from "./mutants-copies.ts";
import { DISCOVERY_MUTANTS } from "./mutants-discovery.ts";
import { DNS_MUTANTS } from "./mutants-dns.ts";
import { DRAIN_MUTANTS } from "./mutants-drains.ts";
import { GENERATION_MUTANTS } from "./mutants-generations.ts";
import { JOIN_MUTANTS } from "./mutants-joins.ts";
import { LEADER_MUTANTS } from "./mutants-leaders.ts";
import { NODE_MUTANTS } from "./mutants-node.ts";
import { ORDER_MUTANTS } from "./mutants-orders.ts";
import { REGION_MUTANTS } from "./mutants-regions.ts";
import { RESOLVER_MUTANTS } from "./mutants-resolvers.ts";
import { ROTATION_MUTANTS } from "./mutants-rotations.ts";
import { SHARD_MUTANTS } from "./mutants-shards.ts";
import { SLICE_MUTANTS } from "./mutants-slices.ts";

interface Edit {
  readonly file: string;
  /** Occurs once. */
  readonly find: string;
  readonly replace: string;
}

export interface Mutant {
  readonly name: string;
  /** The rule it breaks. */
  readonly rule: string;
  readonly edits: readonly Edit[];
  /** A seed up to this one finds it. */
  readonly withinSeeds: number;
  /** The first seed that is tried, where those before it do not find it and would take ten seconds and more; else 1. */
  readonly fromSeed?: number;
  /** Found in the worlds of `lost.ts`, of which each is a seed too. */
  readonly isOfLost?: boolean;
  /** As `isOfLost`, in the worlds of `starts.ts`. */
  readonly isOfStarts?: boolean;
  /** As `isOfLost`, in the worlds of `restarted.ts`. */
  readonly isOfRestarted?: boolean;
  /** As `isOfLost`, in the worlds of `left.ts`. */
  readonly isOfLeft?: boolean;
  /** As `isOfLost`, in the worlds of `generation-renewal.ts`. */
  readonly isOfGenerations?: boolean;
  /** As `isOfLost`, in the worlds of `node-worlds.ts`. */
  readonly isOfNode?: boolean;
  /** As `isOfLost`, in the worlds of `copies.ts`. */
  readonly isOfCopies?: boolean;
  /** As `isOfLost`, in the worlds of `resolver-worlds.ts`. */
  readonly isOfResolvers?: boolean;
  /** As `isOfLost`, in the worlds of `orders.ts`. */
  readonly isOfOrders?: boolean;
  /** As `isOfLost`, in the worlds of `dns-worlds.ts`. */
  readonly isOfDns?: boolean;
  /** As `isOfLost`, in the worlds of `leaders.ts`. */
  readonly isOfLeaders?: boolean;
  /** As `isOfLost`, in the worlds of `shards.ts`. */
  readonly isOfShards?: boolean;
  /** As `isOfLost`, in the worlds of `drains.ts`. */
  readonly isOfDrains?: boolean;
  /** As `isOfLost`, in the worlds of `audits.ts`. */
  readonly isOfAudits?: boolean;
  /** As `isOfLost`, in the worlds of `region-worlds.ts`. */
  readonly isOfRegions?: boolean;
  /** As `isOfLost`, in the worlds of `joins.ts`. */
  readonly isOfJoins?: boolean;
  /** As `isOfLost`, in the worlds of `rotations.ts`. */
  readonly isOfRotations?: boolean;
  /** Found fast enough for every build. */
  readonly isCheap?: boolean;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: "visible before durable",
    rule: "Durability: a record is visible only after its batch is on disk",
    edits: [
      {
        file: "src/node/core/parts/writes.ts",
        find: '    if (batch !== undefined) out.push({ kind: "persist", batch });',
        replace: `    if (batch === undefined) return;
    this.#parts.registrar.commit(batch, { monoMs: 0, wallMs: 0 });
    out.push({ kind: "persist", batch });`,
      },
    ],
    withinSeeds: 60,
  },
  {
    name: "tombstones not kept for a forgotten origin",
    rule: "Orphans: what was unregistered stays gone when the node is away for longer than origin_forget",
    edits: [
      {
        file: "src/catalog/replica/tombstones.ts",
        find: "    if (this.#keptInARow <= this.count) return true;",
        replace: "    return false;",
      },
    ],
    withinSeeds: 20,
    isOfLost: true,
    isCheap: true,
  },
  {
    name: "any tombstone may be a lost origin's",
    rule: "Orphans: where there is no room, tombstones of keys that no lost origin had go before a mark hides all that it wrote",
    edits: [
      {
        file: "src/catalog/replica/tombstones.ts",
        find: "    if (isCrowded && !this.#lost.mayNeed(stored.key)) return false;\n",
        replace: "",
      },
    ],
    withinSeeds: 40,
    isOfLost: true,
  },
  {
    name: "no tombstone is a lost origin's",
    rule: "Orphans: tombstones of keys that a lost origin had are kept, or a mark takes their place",
    edits: [{ file: "src/catalog/replica/tombstones.ts", find: "!this.#lost.mayNeed(stored.key)", replace: "true" }],
    withinSeeds: 60,
    isOfLost: true,
  },
  {
    name: "keys of lost origins forgotten over a restart",
    rule: "Orphans: a snapshot keeps the keys of lost origins",
    edits: [
      {
        file: "src/fabric/snapshot/snapshot.ts",
        find: "  for (const { id, keys } of lostKeys) replica.lost.noteKeys(id, keys);\n",
        replace: "",
      },
    ],
    withinSeeds: 60,
    isOfLost: true,
  },
  {
    name: "keys of lost origins are told to nobody",
    rule: "Orphans: a node that lacks the keys of a lost origin is told them with the table of members",
    edits: [
      {
        file: "src/fabric/membership-part.ts",
        find: "      leftBytes -= keys.hashes.byteLength;\n",
        replace: "      if (leftBytes > 0) return word;\n",
      },
    ],
    withinSeeds: 100,
    isOfLost: true,
  },
  {
    name: "tombstones of a forgotten origin go without a mark",
    rule: "Orphans: a mark replaces a tombstone that cannot be kept",
    edits: [
      {
        file: "src/catalog/replica/lost-origins.ts",
        find: "    for (const { nodeId, generation, through } of this.list)\n",
        replace: "    for (const { nodeId, generation, through } of [])\n",
      },
    ],
    withinSeeds: 40,
    isOfLost: true,
  },
  {
    name: "marks are told to nobody",
    rule: "Orphans: marks and lost origins are told with the table of members",
    edits: [
      {
        file: "src/fabric/membership-part.ts",
        find: "if (lost.size === 0) return output;",
        replace: "if (lost.size >= 0) return output;",
      },
    ],
    withinSeeds: 60,
    isOfLost: true,
  },
  {
    name: "lost origins forgotten over a restart",
    rule: "Orphans: a snapshot keeps lost origins and marks",
    edits: [{ file: "src/fabric/snapshot/snapshot.ts", find: "  for (const lost of header.lost) replica.lost.note(lost);", replace: "" }],
    withinSeeds: 60,
    isOfLost: true,
  },
  {
    name: "a standstill ends leases",
    rule: "Deadlines and standstills: renewals that wait while a node stands still are heard before their leases end",
    edits: [{ file: "src/lib/stall-aware-clock.ts", find: "if (gapMs > STANDSTILL_MS)", replace: "if (gapMs > Number.MAX_VALUE)" }],
    withinSeeds: 40,
  },
  {
    name: "what is renewed just after a standstill ends early",
    rule: "Deadlines and standstills: a renewal just after a standstill gives the whole ttl",
    edits: [
      {
        file: "src/lib/stall-aware-clock.ts",
        find: "    return monoMs - this.#skippedMs;",
        replace: "    return monoMs - this.#skippedMs - this.#graceMs;",
      },
      { file: "src/lib/stall-aware-clock.ts", find: "this.nowMs(monoMs) - this.#graceMs", replace: "this.nowMs(monoMs)" },
    ],
    withinSeeds: 200,
    fromSeed: 81,
  },
  {
    name: "what nobody took over is hidden",
    rule: "Stop: what nobody took stands, neither hidden nor forgotten, though its node is away for long",
    edits: [
      {
        file: "src/fabric/origin-lifecycle.ts",
        find: 'return member.status === "dead" && member.keepsEntries === true ? "kept" : member.status;',
        replace: "return member.status;",
      },
    ],
    withinSeeds: 3,
    isOfLeft: true,
    isCheap: true,
  },
  {
    name: "what nobody took over stays forgotten",
    rule: "Stop: who had forgotten what nobody took over takes it again when it hears how its node stopped",
    edits: [
      {
        file: "src/fabric/origin-lifecycle.ts",
        find: "if (isInEveryTable(update) && forgotten",
        replace: "if (isListed(status) && forgotten",
      },
    ],
    withinSeeds: 3,
    isOfLeft: true,
    isCheap: true,
  },
  {
    name: "what was refused counts as held",
    rule: "Replication: a record that is refused makes its origin partial",
    edits: [
      { file: "src/catalog/replica/frames.ts", find: "    if (lackCount === 0) return;", replace: "    if (lackCount >= 0) return;" },
    ],
    withinSeeds: 60,
  },
  {
    name: "nobody is told of another start",
    rule: "Two nodes with one id: whoever asks is told which start goes under its id",
    edits: [
      {
        file: "src/fabric/membership/process-instances.ts",
        find: "boot === undefined || boot === last.boot) return {};",
        replace: "boot !== undefined) return {};",
      },
    ],
    withinSeeds: 100,
    isOfStarts: true,
  },
  {
    name: "a start that spoke meanwhile is taken for silent",
    rule: "Two nodes with one id: a start that has just asked something is there, whatever an earlier question to it came to",
    edits: [
      {
        file: "src/fabric/membership/state.ts",
        find: "const isSilent = !this.instances.hasCalled(update.nodeId, this.#options.intervalMs, time);",
        replace: "const isSilent = true;",
      },
    ],
    withinSeeds: 250,
    isOfStarts: true,
  },
  {
    name: "a node that stood still writes at once",
    rule: "Two nodes with one id: a node that stood still acknowledges nothing before others have answered",
    edits: [
      {
        file: "src/fabric/membership/identity-dispute.ts",
        find: "return listedCount > 0 && waitedMs < MAX_DISPUTE_MS && confirmers.size < Math.max(least, mostOf(listedCount));",
        replace: "return listedCount > 0 && waitedMs < 0 && confirmers.size < Math.max(least, mostOf(listedCount));",
      },
    ],
    withinSeeds: 100,
    isOfStarts: true,
  },
  {
    name: "partial origins are told to nobody",
    rule: "Replication: a newcomer hears of the origins that its peer does not hold whole, and waits for them",
    edits: [
      {
        file: "src/fabric/replication/sender.ts",
        find: "if (partial.size === 0 && this.#reported.size === 0) return [];",
        replace: "if (partial.size >= 0) return [];",
      },
    ],
    withinSeeds: 60,
  },
  {
    name: "a cursor covers what was refused",
    rule: "Replication: no cursor and no END vouches for a partial origin",
    edits: [
      { file: "src/catalog/record/stored-record.ts", find: "origin.lacks === undefined ? tiedTo(origin) : 0;", replace: "tiedTo(origin);" },
    ],
    withinSeeds: 60,
  },
  {
    name: "whole by a transfer that left out what was refused",
    rule: "Replication: a partial origin is whole when all that its transfer lists is held",
    edits: [
      {
        file: "src/catalog/replica/frames.ts",
        find: "      if (origin.lacks !== undefined && !this.#isHeld(stored)) taken.lackCount += 1;\n",
        replace: "",
      },
      {
        file: "src/catalog/replica/frames.ts",
        find: "if (origin.lacks !== undefined && knownSeq >= origin.through && !this.#repairs.has(origin.id))",
        replace: "if (origin.lacks === undefined && this.#repairs.has(origin.id))",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "a stamp above the newest that there may be",
    rule: "Durability, numbers from outside: a write that cannot be stamped fails, alone",
    edits: [
      {
        file: "src/lib/hlc.ts",
        find: '    if (newestHlc >= MAX_STAMP) throw beyondStamps("the newest record of this key");\n',
        replace: "",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "a staged record outlives what ends it",
    rule: "Several origins: what another node unregistered is ended by its own node, also when it is still on its way to the disk",
    edits: [
      {
        file: "src/catalog/replica/frames.ts",
        find: "[this.#replica.own(stored.key) ?? [], this.#replica.records(stored.key).filter(({ origin }) => origin === self)].flat();",
        replace: "this.#replica.records(stored.key).filter(({ origin }) => origin === self);",
      },
    ],
    fromSeed: 331,
    withinSeeds: 400,
  },
  {
    name: "lost generation kept",
    rule: "Durability: a peer knows more of our generation than our journal: a new one",
    edits: [
      {
        file: "src/fabric/replication/replicator.ts",
        find: "    if (seq <= self.through || this.#lostId",
        replace: "    if (seq > 0 || this.#lostId",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "frame without after",
    rule: "Replication: a frame applies only where V[origin] ≥ after",
    edits: [
      {
        file: "src/catalog/replica/frames.ts",
        find: ": frame.after > takenThrough(origin);",
        replace: ": false;",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "V moved by a frame that was not applied",
    rule: "Replication: nothing else advances V",
    edits: [
      {
        file: "src/catalog/replica/frames.ts",
        find: 'if (isGap) return { kind: "gap", knows: origin.through };',
        replace: 'if (isGap) return { kind: "gap", knows: (origin.through = frame.through) };',
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "hole behind a cut",
    rule: "Replication: a frame cut by size ends at its last record",
    edits: [
      {
        file: "src/catalog/replica/frames.ts",
        find: "  if (!isCut) through = Math.max(upTo, after);",
        replace: "  through = Math.max(upTo, after);",
      },
    ],
    withinSeeds: 100,
    isCheap: true,
  },
  {
    name: "orphans deleted",
    rule: "Orphans are hidden; records and V stay, and the origin's return shows them again",
    edits: [
      {
        file: "src/fabric/origin-lifecycle.ts",
        find: '      this.#change(row, "hidden");\n      out.push',
        replace:
          '      this.#change(row, "hidden");\n      for (const stored of row.origin.log.list()) if (stored.sizeBytes > 0) replica.withdraw(stored, time);\n      out.push',
      },
    ],
    withinSeeds: 200,
    fromSeed: 91,
  },
  {
    name: "an origin's life does not touch its records",
    rule: "Watch 2: an origin's change of state touches its records",
    edits: [
      {
        file: "src/catalog/replica/touch-sweeps.ts",
        find: "      for (const stored of storedRecords) if (isOf(sweep, stored)) this.#touch(stored, sweep);",
        replace: "      // not told",
      },
    ],
    withinSeeds: 100,
    isCheap: true,
  },
  {
    name: "border echo",
    rule: "Link filter: a record never travels back into its origin's cluster",
    edits: [
      {
        file: "src/fabric/replication/version-vector.ts",
        find: '        return origin.clusterId !== "" && origin.clusterId !== reader.clusterId;',
        replace: "        return true;",
      },
      {
        file: "src/fabric/replication/receiver.ts",
        find: '    if (relation !== "cluster" && place.clusterId === here.clusterId)',
        replace: '    if (relation === "remote")',
      },
      {
        file: "src/catalog/replica/frames.ts",
        find: '  if (link.relation !== "cluster" && link.relation !== "self" && home === link.clusterId) return undefined;',
        replace: "",
      },
    ],
    withinSeeds: 300,
  },
  {
    name: "narrowed scope forgotten",
    rule: "P1: reach, so that who is outside the scope now hears that it ended",
    edits: [
      {
        file: "src/catalog/replica/replica.ts",
        find: "      reach: reachOf(this.records(put.key), widest(widest(before?.reach ?? SCOPE.UNSET, put.scope), put.reach ?? SCOPE.UNSET)),",
        replace: "      reach: put.scope,",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "LOCAL crosses the wire",
    rule: "Scopes: LOCAL never leaves its node",
    edits: [{ file: "src/catalog/entry/scope.ts", find: "      return scope >= SCOPE.ZONE;", replace: "      return true;" }],
    withinSeeds: 50,
    isCheap: true,
  },
  {
    name: "records across regions",
    rule: "Membership: a region is one gossip domain",
    edits: [
      {
        file: "src/fabric/links/foreign-peers.ts",
        find: "    if (place.region !== region)\n",
        replace: "    if (place.region !== region && place.clusterId === clusterId)\n",
      },
    ],
    withinSeeds: 20,
  },
  {
    name: "ZONE leaves its cluster",
    rule: "Scopes: ZONE never leaves its cluster",
    edits: [
      { file: "src/catalog/entry/scope.ts", find: "      return scope >= SCOPE.REGION;", replace: "      return scope >= SCOPE.ZONE;" },
    ],
    withinSeeds: 100,
  },
  {
    name: "an end says nothing of what was unregistered elsewhere",
    rule: "Several origins: an end that overtakes the `unregistered` that its node knew hides what that hides",
    edits: [
      {
        file: "src/catalog/replica/tombstones.ts",
        find: "  for (const record of records) if (!isNarrowing(record)) newest = Math.max(newest, endsBeforeHlc(record));\n",
        replace: "  void [records, isNarrowing];\n",
      },
    ],
    withinSeeds: 20,
    isCheap: true,
  },
  {
    name: "an end that says again what is held takes its room",
    rule: "Tombstones: while an origin is lost, of two records that hide the same the `expired` one goes",
    edits: [
      {
        file: "src/catalog/replica/tombstones.ts",
        find: "    if (this.#givesWay(stored, endedHlc)) return false;\n",
        replace: "",
      },
    ],
    withinSeeds: 20,
    isOfLost: true,
  },
  {
    name: "tombstone resurrected",
    rule: "P6: an unregistered entry never comes back: no tombstone is collected while somebody is away who holds what it ended",
    edits: [
      {
        file: "src/fabric/readiness.ts",
        find: "    if (!isInStep || isAnybodyAway || isSomebodyBack) {",
        replace: "    if (isInStep) return true;\n    if (!isInStep || isAnybodyAway || isSomebodyBack) {",
      },
    ],
    withinSeeds: 300,
  },
  {
    name: "members forgotten over a restart",
    rule: "Tombstones: a node remembers who belongs to its cluster, and who was not met since it started is away",
    edits: [
      {
        file: "src/fabric/data-freshness.ts",
        find: "    for (const nodeId of remembered) if (nodeId !== parts.nodeId) this.#setAway(nodeId);",
        replace: "    void remembered;",
      },
    ],
    withinSeeds: 20,
    isOfRestarted: true,
    isCheap: true,
  },
  {
    name: "the dead of whom nothing is held are not away",
    rule: "Tombstones: a member of the own cluster that died may come back with its first records",
    edits: [
      { file: "src/fabric/data-freshness.ts", find: "    else this.#setAway(nodeId);\n", replace: "    else this.#setThere(nodeId);\n" },
    ],
    withinSeeds: 40,
    isOfRestarted: true,
    isCheap: true,
  },
  {
    name: "what is held is compared with an older word of its origin",
    rule: "Accepted reports: what was held before the moment that an origin speaks of was never written, when it is more",
    edits: [
      {
        file: "src/fabric/replication/hearsay.ts",
        find: "    return past !== undefined && past.through > seq;",
        replace: "    return through > seq;",
      },
    ],
    withinSeeds: 60,
  },
  {
    name: "clock clamped at the receiver",
    rule: "Several origins: stamps are compared as stamped, everywhere",
    edits: [
      {
        file: "src/catalog/replica/frames.ts",
        find: "    const stored = this.#storedOf(record, origin);",
        replace: "    const stored = this.#storedOf({ ...record, hlc: Math.min(record.hlc, (time.wallMs + 60_000) * 2048) }, origin);",
      },
    ],
    withinSeeds: 600,
  },
  {
    name: "message without a bound",
    rule: "Watch 10: at most so many bytes a message unless one entry is larger",
    edits: [
      {
        file: "src/catalog/watch/reader.ts",
        find: "        isCut = left < 0 && changes.length > 0;",
        replace: "        isCut = false;",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "age always 0",
    rule: "Readiness: who has not caught up answers with its honest age",
    edits: [
      {
        file: "src/fabric/readiness.ts",
        find: "const ageMs = isCurrent ? behind.ageMs : time.monoMs - this.#begunMonoMs(time);",
        replace: "const ageMs = 0;",
      },
    ],
    withinSeeds: 50,
    isCheap: true,
  },
  {
    name: "what was held up is said when it comes",
    rule: "Age: what a peer says counts from when it said it",
    edits: [{ file: "src/fabric/replication/sender.ts", find: "return Math.min(soMonoMs, monoMs);", replace: "return monoMs;" }],
    withinSeeds: 50,
  },
  {
    name: "an empty node is as old as its start",
    rule: "Age: without a snapshot what a node lacks may have been there since 1970",
    edits: [
      {
        file: "src/fabric/readiness.ts",
        find: "return this.#parts.asOfMonoMs ?? monoMs - wallMs;",
        replace: "return this.#parts.asOfMonoMs ?? this.#startMonoMs;",
      },
    ],
    withinSeeds: 50,
  },
  {
    name: "the dead are no age",
    rule: "Age: a peer that died without goodbye counts on while more than half of its cluster is missing, or the only other node of ours",
    edits: [
      {
        file: "src/fabric/data-freshness.ts",
        find: "      if (monoMs < goneUntilMonoMs || !(isWanted || monoMs < backUntilMonoMs || this.#halved.has(clusterId))) continue;",
        replace: "      if (monoMs < goneUntilMonoMs || !(isWanted || monoMs < backUntilMonoMs)) continue;",
      },
      {
        file: "src/fabric/data-freshness.ts",
        find: "|| (!isListed(status) && !halved.has(clusterId))) continue;",
        replace: "|| !isListed(status)) continue;",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "the dead are no risk",
    rule: "Age: members that are down or unreachable and have not left are listed with the age, which leaves them out",
    edits: [
      {
        file: "src/fabric/data-freshness.ts",
        find: "      else nodeIds.push(nodeId);",
        replace: "      else if (isKept) nodeIds.push(nodeId);",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "END of a node behind its cursor",
    rule: "Watch 4: no END or bookmark until the own vector covers the cursor",
    edits: [
      {
        file: "src/catalog/watch/resume.ts",
        find: "      if (origin !== undefined && settledOf(origin) >= seq) {",
        replace: "      if (origin !== undefined) {",
      },
    ],
    withinSeeds: 300,
  },
  {
    name: "a short cursor is good for any reader",
    rule: "Watch 3: a cursor of another filter or viewer makes a snapshot",
    edits: [
      {
        file: "src/catalog/watch/resume.ts",
        find: "return cursor.holder === shortHolder(node.boot, options.hash);",
        replace: "return cursor.holder.startsWith(shortHolder(node.boot));",
      },
    ],
    withinSeeds: 20,
    isCheap: true,
  },
  {
    name: "END of a node that is not ready",
    rule: "Watch 7: who has not caught up sends no END",
    edits: [
      {
        file: "src/catalog/watch/feed.ts",
        find: "    const mayEnd = isReady && to === reader.replica.revision && !reader.isOwed;",
        replace: "    const mayEnd = to === reader.replica.revision && !reader.isOwed;",
      },
    ],
    withinSeeds: 200,
    isCheap: true,
  },
  {
    name: "verdicts change untold",
    rule: "Watch 5: a scoped snapshot when a verdict changes",
    edits: [
      {
        file: "src/catalog/watch/feed.ts",
        find: "      this.#scopes ??= new Set();\n      this.#scopes.add(namespace);",
        replace: "",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "records overtake the policy",
    rule: "Policy: a node gives no records to a peer that lacks its newest version and has not refused it",
    edits: [
      {
        file: "src/fabric/policy-sync.ts",
        find: "state === undefined || this.#head.number === 0",
        replace: "state === undefined || this.#head.number >= 0",
      },
    ],
    withinSeeds: 100,
    isCheap: true,
  },
  {
    name: "others are told of a policy when it is shown",
    rule: "Policy: a node gives no records to a peer that lacks its newest version and has not refused it",
    edits: [
      {
        file: "src/policy/versions/policy-store.ts",
        find: `    this.#parts.onHead(this.engine.place);
    yield { kind: "shown" };`,
        replace: `    yield { kind: "shown" };
    this.#parts.onHead(this.engine.place);`,
      },
    ],
    withinSeeds: 20,
    isCheap: true,
  },
  {
    name: "bookmark between two policies",
    rule: "Watch 5: no END and no bookmark while a change of policy is still to be told",
    edits: [{ file: "src/catalog/watch/reader.ts", find: "    return this.options.isOwedAny?.() === true;", replace: "    return false;" }],
    withinSeeds: 200,
    isCheap: true,
  },
  {
    name: "filter_seq stands still",
    rule: 'Watch 2: "no longer matches" is told when a filterable field changed',
    edits: [
      {
        file: "src/catalog/replica/replica.ts",
        find: "    const isFilterChange = held.filterSeq !== next.filterSeq;",
        replace: "    const isFilterChange = false;",
      },
    ],
    withinSeeds: 200,
    fromSeed: 81,
  },
  {
    name: "nobody knows what a reader holds",
    rule: "Watch 2: what a reader never had is not removed",
    edits: [
      {
        file: "src/catalog/replica/past-views.ts",
        find: '    if (revision <= place.until) return "unknown";',
        replace: '    if (revision > 0) return "unknown";',
      },
    ],
    withinSeeds: 60,
    isCheap: true,
  },
  {
    name: "only the last touch of a key counts",
    rule: "Watch 2: what a reader holds is what was seen where it stands, not before the last change",
    edits: [
      {
        file: "src/catalog/replica/past-views.ts",
        find: "      if (touch <= until) {",
        replace: "      if (touch > until) return { view, isSure: lookedAt < since };\n      if (touch <= until) {",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "news of others passed on by everybody",
    rule: "Replication: news of others is offered, and asked of one",
    edits: [
      {
        file: "src/fabric/replication/sender.ts",
        find: "    return origin === this.#replicator.replica.self && this.#view.hasWholeVector && known.at < this.#upTo(origin);",
        replace: "    return this.#view.hasWholeVector && known.at < this.#upTo(origin);",
      },
      {
        file: "src/fabric/replication/sender.ts",
        find: "    if (this.#seenOrder !== this.#replicator.vector.order) this.#lookForOffers(time);",
        replace:
          "    this.#replicator.vector.forEachSince(this.#seenOrder, ({ id }) => void (this.#view.take(id) && this.#ready.add(id)));\n    this.#seenOrder = this.#replicator.vector.order;",
      },
    ],
    withinSeeds: 20,
    isCheap: true,
  },
  {
    name: "asked of everybody who offers",
    rule: "Replication: one link at a time fetches an origin",
    edits: [
      {
        file: "src/fabric/replication/pulls-in-flight.ts",
        find: "    if (monoMs - Math.max(fetch.sinceMonoMs, busyMonoMs) < waitMs) return false;",
        replace: "    if (fetch.puller === puller && monoMs - Math.max(fetch.sinceMonoMs, busyMonoMs) < waitMs) return false;",
      },
    ],
    withinSeeds: 100,
  },
  ...COPY_MUTANTS,
  ...DISCOVERY_MUTANTS,
  ...DNS_MUTANTS,
  ...DRAIN_MUTANTS,
  ...JOIN_MUTANTS,
  ...LEADER_MUTANTS,
  ...ROTATION_MUTANTS,
  ...SHARD_MUTANTS,
  ...GENERATION_MUTANTS,
  ...NODE_MUTANTS,
  ...ORDER_MUTANTS,
  ...REGION_MUTANTS,
  ...RESOLVER_MUTANTS,
  ...SLICE_MUTANTS,
];
