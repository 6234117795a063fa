/** What a node does before it leaves others of its cluster: ends what ends with it, and hands its static entries over (semantics.md, Stop). */
import { performance } from "node:perf_hooks";
import type { FabricDriver } from "./fabric/driver.io.ts";
import type { Leaving } from "./fabric/leaving.ts";
import { rethrowBroken } from "./lib/errors.ts";
import type { Log } from "./lib/log.io.ts";
import { type NodeCore, now } from "./node-core.ts";

export interface LeaveParts {
  readonly core: NodeCore;
  readonly driver: Pick<FabricDriver, "input">;
  readonly leaving: Leaving;
  readonly log: Log;
}

/** Entries ended in one batch. */
const LEAVE_BATCH = 1000;
/** How often is looked whether others have taken what was offered. */
const STEP_MS = 20;

/** Returns how many static entries nobody has taken by then: they stand, and the node says that it restarts. Rejects on a bug only. */
export async function handOver({ core, driver, leaving, log }: LeaveParts, endMonoMs: number): Promise<number> {
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
  const facts = { takenCount: entries.takenCount, leftCount, localEndedCount: entries.localEndedCount };
  if (leftCount > 0) log.warn(facts, "nobody took all static entries over: they stand, and this node says that it restarts");
  else log.info(facts, "static entries handed over");
  return leftCount;
}
