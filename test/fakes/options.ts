/** Options of machines as a node has them without any setting: read off the settings' rows. */
import type { Bounds } from "../../src/catalog/entry/names.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Settings } from "../../src/config/settings.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import type { OriginLifecyclePorts } from "../../src/fabric/origin-lifecycle.ts";
import { fabricOptions } from "../../src/node/fabric/options.ts";

function defaults(): Settings {
  const loaded = loadConfig({ env: {}, flags: new Map() });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.effective.settings;
}

export const SETTINGS: Settings = defaults();
export const BOUNDS: Bounds = SETTINGS.limits;

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

/** Of a fabric in which nothing was remembered or hidden, and nobody has told who the members are. */
export const ORIGIN_LIFECYCLE_PORTS = {
  maxMembers: 1000,
  wasHidden: () => false,
  closed: () => {},
  swept: () => {},
  hasTable: () => false,
} as const satisfies Partial<OriginLifecyclePorts>;
