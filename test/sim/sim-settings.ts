/** The settings of a simulated node. */
import type { Settings } from "../../src/config/settings.ts";
import { SETTINGS } from "../fakes/options.ts";
import type { SimNode } from "./sim-node.ts";

/** Least time between two loads of an entry that others are told. */
export const LOAD_INTERVAL_MS = 5000;

export function settingsOf({ options, pastTouches }: SimNode): Settings {
  const { clusterId, region, zone, seeds, tombstoneTtlMs, minTombstones, regional } = options;
  const numbers = { defaultLeaseTtlMs: 10_000, loadIntervalMs: LOAD_INTERVAL_MS, maxIdempotencyKeys: 100, tombstoneTtlMs, minTombstones };
  // No setting: `openRooms` hands it to the replica.
  const catalog = { ...SETTINGS.catalog, ...numbers, pastTouches };
  const settings: Settings = {
    ...SETTINGS,
    node: { ...SETTINGS.node, clusterId, region, zone, roles: [] },
    catalog,
    // A file with a token is configured, so that peers' policies are taken; the token itself is `clusterToken`.
    // A drained node waits for this time until no cache has its addresses.
    dns: { ...SETTINGS.dns, maxTtlMs: 3000 },
    fabric: { ...SETTINGS.fabric, seeds, trust: "permissive", clusterTokenFile: "token" },
    policy: { ...SETTINGS.policy, acceptFrom: ["c1", "c2", "c3", "c4"] },
  };
  return regional?.settings(settings) ?? settings;
}
