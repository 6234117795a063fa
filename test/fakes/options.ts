/** Options of machines as a node has them without any setting: read off the settings' rows. */
import type { EntryBounds } from "../../src/catalog/entry/names.ts";
import type { Replica } from "../../src/catalog/replica/replica.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Settings } from "../../src/config/settings.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import type { OriginLifecycleParts } from "../../src/fabric/origin-lifecycle.ts";
import { fabricOptions } from "../../src/node/fabric/options.ts";

function defaults(): Settings {
  const loaded = loadConfig({ env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.effective.settings;
}

export const SETTINGS: Settings = defaults();
export const BOUNDS: EntryBounds = SETTINGS.limits;

/** A stop in a test has half of the time that a node has. */
export const FABRIC_OPTIONS: FabricOptions = { ...fabricOptions(SETTINGS), stopTimeoutMs: 5000 };
export const {
  membership: MEMBERSHIP_OPTIONS,
  links: LINKS_OPTIONS,
  replication: REPLICATION_OPTIONS,
  lifecycle: ORIGIN_LIFECYCLE_OPTIONS,
  readiness: READINESS_OPTIONS,
  policy: POLICY_OPTIONS,
} = FABRIC_OPTIONS;

/** Of a fabric in which nothing was remembered or hidden, and nobody has sent a table of members. */
export function lifecycleParts(replica: Replica, find: OriginLifecycleParts["membership"]["find"] = () => undefined): OriginLifecycleParts {
  return {
    replica,
    clusterId: "c1",
    maxMembers: 1000,
    membership: { find, hasJoined: false },
    replication: {
      hiddenElsewhere: new Set(),
      closed: () => {},
      disproved: { step: () => {} },
      forgetOrigin: (origin, time, isOver, maxCount) => replica.forgetOrigin(origin, time, isOver, maxCount),
      readmit: (nodeId, generation) => replica.restoreOrigin(nodeId, generation),
    },
  };
}
