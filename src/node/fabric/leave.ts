/** What a node does before it leaves others of its cluster: ends what ends with it, and hands its static entries over (semantics.md, Stop). */
import { performance } from "node:perf_hooks";
import type { FabricDriver } from "../../fabric/driver.io.ts";
import type { FabricOutput } from "../../fabric/io-types.ts";
import type { Leaving } from "../../fabric/leaving.ts";
import { rethrowBroken } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { type NodeCore, now } from "../core.ts";
import type { FabricEvents } from "./events.ts";

export interface LeaveParts {
  readonly core: Pick<NodeCore, "registrar"> & { readonly committer: Pick<NodeCore["committer"], "durable"> };
  readonly driver: Pick<FabricDriver, "input">;
  readonly leaving: Pick<Leaving, "takers">;
  /** What became of the static entries: by then no listener is open where somebody could ask for it. */
  readonly events: Pick<FabricEvents, "tell">;
  readonly log: Pick<Log, "warn">;
}

/** Entries ended in one batch. */
const LEAVE_BATCH = 1000;
/** How often is looked whether others have taken what was offered. */
const STEP_MS = 20;

/** Returns how many static entries nobody has taken by then: they stand, and the node says that it restarts. Rejects on a bug only. */
export async function handOver({ core, driver, leaving, events, log }: LeaveParts, endMonoMs: number): Promise<number> {
  const { registrar, committer } = core;
  const { handOver: entries } = registrar;
  driver.input({ kind: "leaving" });
  try {
    let after: number | undefined = 0;
    while (after !== undefined && performance.now() < endMonoMs) {
      after = registrar.endOwn(after, LEAVE_BATCH, now());
      await committer.durable();
    }
    entries.begin(now());
    for (let isOver = false; !isOver && performance.now() < endMonoMs; ) {
      const step = entries.step(leaving.takers(), now());
      isOver = step.isOver;
      for (const { nodeId, seqs } of step.offers) driver.input({ kind: "offer", nodeId, seqs });
      await committer.durable();
      if (!isOver) await new Promise((resolve) => setTimeout(resolve, STEP_MS));
    }
  } catch (error) {
    rethrowBroken(error);
    log.warn({ err: error }, "own entries neither ended nor handed over: others keep them as orphans");
  }
  const leftCount = entries.left().length;
  const { takenCount, localEndedCount } = entries;
  const detail = { takenCount, leftCount, localEndedCount };
  const isAudited = takenCount + leftCount + localEndedCount > 0;
  // Of what is left they stand, and this node says that it restarts.
  if (leftCount > 0) events.tell({ name: "static_entries_left", severity: "warn", isAudited, detail });
  else events.tell({ name: "static_entries_handed_over", severity: "info", isAudited, detail });
  return leftCount;
}

/** Another node leaves: its static entries are this one's from now on. */
export function takeOver(
  { core, log }: Pick<LeaveParts, "log"> & { readonly core: NodeCore },
  offer: Extract<FabricOutput, { readonly kind: "offered" }>,
): void {
  const count = core.registrar.handOver.take(offer, offer.seqs, now());
  if (count === 0) return;
  core.committer.durable()?.then(
    () => core.metrics.counter("mesh_taken_over_entries_total", {}).inc(count),
    // They are offered to another node.
    (error: unknown) => log.warn({ err: error }, "entries of a node that leaves not taken over"),
  );
}
