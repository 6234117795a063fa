/** Runs the probes that the machine of a node orders, and reports the state of the checks to operators. */

import { FAILURE } from "../../catalog/entry/checks.ts";
import type { Settings } from "../../config/settings.ts";
import type { StartProbe } from "../../discovery/checks/checks.ts";
import { ProbeAllowList } from "../../discovery/checks/probe-allow-list.ts";
import { DOUBT_MS } from "../../discovery/checks/self-preservation.ts";
import { failed } from "../../discovery/checks/threshold.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { NodeComponent } from "../components.io.ts";
import type { NodeNotice } from "../core-io.ts";
import type { NodeCore } from "../rooms.io.ts";
import { Prober } from "./prober.io.ts";

export type ChecksCore = Pick<NodeCore, "checks" | "driver" | "metrics">;

export function openChecks({ checks }: Settings, core: ChecksCore, log: Log): NodeComponent {
  const prober = new Prober(new ProbeAllowList(checks.allowed));
  const unfollow = core.driver.follow((notice) => follow(notice, core, prober, log));
  return {
    start: () => {
      const { unwatched } = core.checks.counts();
      if (unwatched > 0) log.warn({ unwatched }, UNWATCHED);
    },
    stop: () => {
      unfollow();
      prober.close();
    },
    readiness: () => {
      const detail = detailOf(core);
      // Always ok: another node would have the same check results, so removing this node from service would not help.
      return detail === undefined ? [] : [{ name: "checks", ok: true, detail }];
    },
    observe: () => observe(core),
  };
}

const UNWATCHED = "restored entries have checks that do not run: checks.enabled is false";

function follow(notice: NodeNotice, { driver }: ChecksCore, prober: Prober, log: Log): void {
  if (notice.kind === "probe") void run(notice, driver, prober, log);
  if (notice.kind === "cutProbe") prober.cut(notice.id);
  if (notice.kind !== "doubt") return;
  const { owner = "all", checkCount, changingCount } = notice;
  if (notice.isSelfPreserving)
    log.warn(
      { owner, checkCount, changingCount, doubtMs: DOUBT_MS },
      "most checks changed state at the same time: self-preservation keeps the previous states for a while",
    );
  else log.info({ owner, checkCount, changingCount }, "self-preservation ended: checks can change state again");
}

/** Runs a probe. Never rejects, except for a bug that ends the process. */
async function run({ id, probe }: StartProbe, driver: ChecksCore["driver"], prober: Prober, log: Log): Promise<void> {
  let outcome = failed(FAILURE.REFUSED);
  try {
    outcome = await prober.probe(probe, { id, onResolved: () => driver.input({ kind: "resolved", id }) });
  } catch (error) {
    rethrowInvariant(error);
    log.error({ err: error, kind: probe.kind }, "probe failed");
  }
  driver.input({ kind: "probed", id, outcome });
}

/** Undefined if no entry has checks. */
function detailOf({ checks }: ChecksCore): string | undefined {
  const { passing, failing, unknown, unwatched } = checks.counts();
  if (unwatched > 0) return `${unwatched} not run: checks.enabled is false`;
  if (passing + failing + unknown === 0) return undefined;
  const { notRunCount } = checks;
  const late =
    notRunCount === 0 ? "" : `; ${notRunCount} have not run for three intervals, because more checks are waiting than the node can run`;
  const counts = `${passing} passing, ${failing} failing, ${unknown} unknown${late}`;
  return checks.doubt.isSelfPreserving
    ? `${counts}; self-preservation keeps the previous states for ${DOUBT_MS / 1000} s, because most checks of a tenant or of the node changed state at the same time`
    : counts;
}

function observe({ checks, metrics }: ChecksCore): void {
  const { passing, failing, unknown, unwatched } = checks.counts();
  metrics.set("waymark_checks", { state: "passing" }, passing);
  metrics.set("waymark_checks", { state: "failing" }, failing);
  metrics.set("waymark_checks", { state: "unknown" }, unknown);
  metrics.set("waymark_checks", { state: "unwatched" }, unwatched);
  metrics.set("waymark_checks_not_run", {}, checks.notRunCount);
  metrics.set("waymark_checks_doubting", {}, checks.doubt.isSelfPreserving ? 1 : 0);
  metrics.set("waymark_check_probes_in_flight", {}, checks.inFlightCount);
  metrics.set("waymark_check_probes_waiting", {}, checks.waitingCount);
  const { passed, failed: failures, turned } = checks.totals;
  metrics.counter("waymark_check_outcomes_total", { outcome: "passed" }).set(passed);
  metrics.counter("waymark_check_outcomes_total", { outcome: "failed" }).set(failures);
  metrics.counter("waymark_check_turns_total", {}).set(turned);
  metrics.counter("waymark_checks_doubts_total", {}).set(checks.doubt.count);
}
