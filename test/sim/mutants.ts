/**
 * Bugs to plant: each breaks one rule that semantics.md marks with a *Why*, or one that a rule rests on. They are edits of the source,
 * made while it is loaded (`mutant-child.ts`), so that the source knows nothing of them; one that no longer fits fails its test.
 */

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
  /** Found fast enough for every build. */
  readonly isCheap?: boolean;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: "visible before durable",
    rule: "Durability: a record is visible only after its batch is on disk",
    edits: [
      {
        file: "test/sim/sim-node.ts",
        find: "    this.flight = { batch, waiting: this.#waiting.splice(0) };",
        replace: `    this.flight = { batch, waiting: this.#waiting.splice(0) };
    this.registrar.commit(batch, this.time());
    this.later({ kind: "changed" });`,
      },
    ],
    withinSeeds: 60,
  },
  {
    name: "lost generation kept",
    rule: "Durability: a peer knows more of our generation than our journal: a new one",
    edits: [
      {
        file: "src/fabric/replication-shared.ts",
        find: "    if (seq <= lastSeq || this.#lostId",
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
        file: "src/catalog/frames.ts",
        find: ': frame.after > origin.through) return { kind: "gap", knows: origin.through };',
        replace: ': false) return { kind: "gap", knows: origin.through };',
      },
    ],
    withinSeeds: 100,
    isCheap: true,
  },
  {
    name: "V moved by a frame that was not applied",
    rule: "Replication: nothing else advances V",
    edits: [
      {
        file: "src/catalog/frames.ts",
        find: ': frame.after > origin.through) return { kind: "gap", knows: origin.through };',
        replace: ': frame.after > origin.through) return { kind: "gap", knows: (origin.through = frame.through) };',
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "hole behind a cut",
    rule: "Replication: a frame cut by size ends at its last record",
    edits: [
      {
        file: "src/catalog/frames.ts",
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
        file: "src/fabric/lives.ts",
        find: '      this.#change(row, "hidden");\n      events.push',
        replace:
          '      this.#change(row, "hidden");\n      for (const cell of row.origin.log.list()) if (cell.body === BODY.ENTRY) replica.withdraw(cell, time);\n      events.push',
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "an origin's life does not touch its records",
    rule: "Watch 2: an origin's change of state touches its records",
    edits: [
      {
        file: "src/fabric/lives.ts",
        find: "      for (const cell of cells) if (cell.body === BODY.ENTRY) this.#parts.replica.touch(cell);",
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
        file: "src/fabric/vector.ts",
        find: '        return origin.clusterId !== "" && origin.clusterId !== reader.clusterId;',
        replace: "        return true;",
      },
      {
        file: "src/fabric/record-intake.ts",
        find: '    if (relation !== "cluster" && place.clusterId === here.clusterId)',
        replace: '    if (relation === "remote")',
      },
      {
        file: "src/catalog/frames.ts",
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
        file: "src/catalog/replica.ts",
        find: "      reach: widest(before?.reach ?? SCOPE.UNSET, put.scope),",
        replace: "      reach: put.scope,",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "LOCAL crosses the wire",
    rule: "Scopes: LOCAL never leaves its node",
    edits: [{ file: "src/catalog/scope.ts", find: "      return scope >= SCOPE.ZONE;", replace: "      return true;" }],
    withinSeeds: 50,
    isCheap: true,
  },
  {
    name: "ZONE leaves its cluster",
    rule: "Scopes: ZONE never leaves its cluster",
    edits: [{ file: "src/catalog/scope.ts", find: "      return scope >= SCOPE.REGION;", replace: "      return scope >= SCOPE.ZONE;" }],
    withinSeeds: 100,
  },
  {
    name: "unregistered counts as expired",
    rule: "Several origins: what was unregistered at B does not show A's old record",
    edits: [
      {
        file: "src/discovery/endings.ts",
        find: "    this.#bury(record, BODY.UNREGISTERED, time);",
        replace: "    this.#bury(record, BODY.EXPIRED, time);",
      },
    ],
    withinSeeds: 100,
    isCheap: true,
  },
  {
    name: "tombstone resurrected",
    rule: "P6: an unregistered entry never comes back: no tombstone is collected while somebody is away who holds what it ended",
    edits: [
      {
        file: "src/fabric/collecting.ts",
        find: "    if (!isReady || ageMs > 0 || isAnybodyAway) {",
        replace: "    if (isReady) return true;\n    if (!isReady || ageMs > 0 || isAnybodyAway) {",
      },
    ],
    withinSeeds: 300,
  },
  {
    name: "clock clamped at the receiver",
    rule: "Several origins: stamps are compared as stamped, everywhere",
    edits: [
      {
        file: "src/catalog/frames.ts",
        find: "    const cell = this.#cellOf(record, origin);",
        replace: "    const cell = this.#cellOf({ ...record, hlc: Math.min(record.hlc, (time.wallMs + 60_000) * 2048) }, origin);",
      },
    ],
    withinSeeds: 600,
  },
  {
    name: "message without a bound",
    rule: "Watch 10: at most so many bytes a message unless one entry is larger",
    edits: [
      {
        file: "src/catalog/reader.ts",
        find: "        isCut = left < 0 && changes.length > 0;",
        replace: "        isCut = false;",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "every load told",
    rule: "Load: reports replicate only when their band changes, at most once in an interval",
    edits: [
      {
        file: "src/discovery/loads.ts",
        find: "    if (before.band === band || monoMs - before.toldMonoMs < this.#intervalMs) return false;",
        replace: "",
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
        find: "ageMs: isCurrent ? behindMs : this.#startAgeMs + startedMs };",
        replace: "ageMs: 0 };",
      },
    ],
    withinSeeds: 50,
    isCheap: true,
  },
  {
    name: "END of a node behind its cursor",
    rule: "Watch 4: no END or bookmark until the own vector covers the cursor",
    edits: [
      {
        file: "src/catalog/resume.ts",
        find: "      if (origin !== undefined && settledOf(origin) >= seq) {",
        replace: "      if (origin !== undefined) {",
      },
    ],
    withinSeeds: 300,
  },
  {
    name: "END of a node that is not ready",
    rule: "Watch 7: who has not caught up sends no END",
    edits: [
      {
        file: "src/catalog/feed.ts",
        find: "    const isEnd = isReady && to === reader.replica.revision;",
        replace: "    const isEnd = to === reader.replica.revision;",
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
        file: "src/catalog/feed.ts",
        find: "      if (this.reader.mayHoldNamespace(namespace) && !this.#scopes.includes(namespace)) this.#scopes.push(namespace);",
        replace: "      this.#scopes.includes(namespace);",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "filter_seq stands still",
    rule: 'Watch 2: "no longer matches" is told when a filterable field changed',
    edits: [
      {
        file: "src/catalog/replica.ts",
        find: "    const isFilterChange = held.filterSeq !== next.filterSeq;",
        replace: "    const isFilterChange = false;",
      },
    ],
    withinSeeds: 100,
  },
];
