/** A node that stands alone, built from its rooms on virtual time: its probes are answered by the test. */

import type { WriteBatch } from "../../src/catalog/batch.ts";
import { checksOf } from "../../src/catalog/entry/checks.ts";
import { Leases } from "../../src/catalog/leases.ts";
import { type CheckOutcome, PASSED } from "../../src/discovery/checks/threshold.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { openRooms } from "../../src/node/core/rooms.ts";
import type { NodeOutput } from "../../src/node/core-io.ts";
import { checksumOf, type PolicySet } from "../../src/policy/set/rules.ts";
import { encodeVersion } from "../../src/policy/versions/codec.ts";
import { HISTORY_BOUNDS } from "../../src/policy/versions/engine.ts";
import { SETTINGS } from "./options.ts";
import { set } from "./policies.ts";
import { at, caller, command, Disk, keyOf, type stamped } from "./registry.ts";
import { ALL_TIME_COUNTS } from "./stall-clock.ts";

/** Its disk always takes what it is given. */
export class LoneNode {
  readonly disk: Disk;
  readonly rooms;
  readonly probes: Extract<NodeOutput, { readonly kind: "probe" }>[] = [];
  readonly doubts: boolean[] = [];
  outcome: CheckOutcome = PASSED;
  isAnswering = true;
  ms = 0;
  #tokens = 0;

  constructor(disk = new Disk(), isEnabled = true) {
    this.disk = disk;
    const settings = { ...SETTINGS, checks: { enabled: isEnabled, allowed: ["10.0.0.0/8"] }, node: { ...SETTINGS.node, clusterId: "c1" } };
    const chance = {
      leases: new Leases(1),
      newGeneration: () => 77,
      newToken: () => `${this.#tokens++}`,
      random: () => 0.5,
      onAgain: () => {},
    };
    const fixed = { version: "1", history: HISTORY_BOUNDS, stallClock: ALL_TIME_COUNTS, audit: undefined, isMarked: false };
    const { lastSeq, floor } = disk;
    const restored = { nodeId: "a", generation: 1, lastSeq, floor, leases: [...disk.leases.values()], boot: "b1" };
    const opening = openRooms(restored, { settings, metrics: new Metrics(), now: () => at(this.ms), ...fixed, ...chance }, at(0));
    for (const row of disk.rows.values()) opening.row(row);
    this.rooms = opening.finish().rooms;
  }

  give(input: Parameters<typeof this.rooms.machine.handle>[0]): void {
    const out: NodeOutput[] = [];
    this.rooms.machine.handle(input, at(this.ms), out);
    for (const output of out) this.#obey(output);
  }

  begin(): this {
    for (const kind of ["begin", "serve", "policyShown"] as const) this.give({ kind });
    return this;
  }

  register(...entries: readonly ReturnType<typeof stamped>[]): void {
    this.rooms.registrar.register(caller("ann"), command(entries, { isStatic: true }), at(this.ms));
    this.give({ kind: "tick" });
  }

  run(forMs: number): void {
    const endMs = this.ms + forMs;
    for (this.ms += 100; this.ms <= endMs; this.ms += 100) this.give({ kind: "tick" });
    this.ms = endMs;
  }

  /** A policy that hides nothing else is in force from now on. */
  policy({ rules }: Pick<PolicySet, "rules">): void {
    const made = set(rules, { defaultAllow: true });
    const facts = {
      number: 1,
      hlc: 2048,
      nodeId: "a",
      version: "v1",
      defaultAllow: true,
      ruleCount: rules.length,
      appliedWallMs: 1,
      principal: "ann",
    };
    const rest = {
      reason: "",
      changeTicket: "",
      checksum: checksumOf(made),
      lineage: [],
      stage: undefined,
      changes: [],
      changesLeftOut: 0,
      set: made,
    };
    this.rooms.policies.adopt({ number: 1, bytes: encodeVersion({ ...facts, ...rest }) });
  }

  answer(id: number): void {
    this.give({ kind: "resolved", id });
    this.give({ kind: "probed", id, outcome: this.outcome });
  }

  healthOf(name: string): number | undefined {
    return this.rooms.replica.view(keyOf(name))?.health;
  }

  statesOf(name: string) {
    const record = this.rooms.replica.view(keyOf(name));
    return record && checksOf(this.rooms.replica.slab.view(record.at, record.sizeBytes)).checkStates;
  }

  #obey(output: NodeOutput): void {
    if (output.kind === "persist") this.#persist(output.batch);
    if (output.kind === "doubt") this.doubts.push(output.isSelfPreserving);
    if (output.kind !== "probe") return;
    this.probes.push(output);
    if (this.isAnswering) this.answer(output.id);
  }

  #persist(batch: WriteBatch): void {
    this.disk.write(batch);
    this.give({ kind: "persisted" });
  }
}
