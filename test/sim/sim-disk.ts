/** The disk of a simulated node. */
import type { KeyText } from "../../src/catalog/record/record.ts";
import { ControlMap } from "../fakes/control-map.ts";
import { Disk } from "../fakes/registry.ts";
import { copyOf } from "./policies.ts";

/** What survives a crash. */
export class SimDisk extends Disk {
  generation: number;
  /** Of the policy. */
  store = new ControlMap();
  /** Of what other nodes told. */
  snapshot: { readonly bytes: Uint8Array; readonly savedWallMs: number } | undefined;
  /** Keys of others' entries that are in the snapshot, for the invariants. */
  saved: ReadonlySet<KeyText> = new Set();
  /** Members of the own cluster. */
  roster: Uint8Array | undefined;
  /** The names of the starts, the last one first; undefined where starts have no names, as without a disk. */
  boots: readonly string[] | undefined;

  constructor(generation: number) {
    super();
    this.generation = generation;
  }

  copy(): SimDisk {
    const copy = new SimDisk(this.generation);
    copy.lastSeq = this.lastSeq;
    copy.floor = this.floor;
    copy.rows = new Map(this.rows);
    copy.leases = new Map(this.leases);
    copy.store = copyOf(this.store);
    copy.snapshot = this.snapshot;
    copy.saved = this.saved;
    copy.roster = this.roster;
    copy.boots = this.boots;
    return copy;
  }
}
