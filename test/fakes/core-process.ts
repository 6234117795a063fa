/** A process for the rooms that answer readers: the settings of tests, metrics that no test reads, and no audit. */
import type { ReplicaOptions } from "../../src/catalog/replica/replica.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { CoreProcess } from "../../src/node/core/reading-core.ts";
import { SETTINGS } from "./options.ts";

/** One for all, because it takes longer to make than all rooms. It keeps no collectors, and so no rooms alive. */
class UnreadMetrics extends Metrics {
  override onCollect(): void {}
}

const METRICS = new UnreadMetrics();

interface Described {
  readonly now: () => Time;
  /** Of the replica. */
  readonly catalog: Pick<ReplicaOptions, "minTombstones" | "pastTouches" | "tombstoneTtlMs">;
  readonly zones?: readonly string[];
  readonly clusterId?: string;
  readonly region?: string;
  readonly boot?: string;
  readonly onAgain?: () => void;
}

export function coreProcess({
  now,
  catalog,
  zones = [],
  clusterId = "c1",
  region = "r1",
  boot = "boot",
  onAgain = () => {},
}: Described): CoreProcess {
  const settings = {
    ...SETTINGS,
    node: { ...SETTINGS.node, clusterId, region },
    dns: { ...SETTINGS.dns, zones },
    catalog: { ...SETTINGS.catalog, ...catalog },
  };
  return { settings, version: "0.0.0", boot, metrics: METRICS, now, onAgain };
}
