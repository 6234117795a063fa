/** The real fabric in a simulated process: and its settings for short worlds. */

import type { Settings } from "../../src/config/settings.ts";
import type { Fabric } from "../../src/fabric/fabric.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import { joinOthers } from "../../src/node/core/joining.ts";
import type { RestoredRooms } from "../../src/node/core/rooms.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";
import type { SimProcess } from "./sim-node.ts";
import { BLOCK_BYTES, rememberedBy } from "./warm-start.ts";

/** Short graces, so that a minute sees all of an origin's lives; and small slices, so that everybody meets what is half done. */
export const SIM_FABRIC: FabricOptions = {
  ...FABRIC_OPTIONS,
  lifecycle: { ...FABRIC_OPTIONS.lifecycle, orphanGraceMs: 25_000, originForgetMs: 900_000, maxTouches: 1 },
  // What was refused is tried again within a plan.
  replication: { ...FABRIC_OPTIONS.replication, partialRetryMs: 15_000 },
};

/** What a stop in a plan has for handing over. */
export const HAND_OVER_MS = 1000;

interface Given {
  readonly settings: Settings;
  /** Undefined where starts have no names. */
  readonly earlierBoots: readonly string[] | undefined;
}

/** Builds the fabric of a process whose rows and snapshot are back. */
export function openSimFabric(process: SimProcess, rooms: RestoredRooms, { settings, earlierBoots }: Given): Fabric {
  const { node, warm } = process;
  const { options, parts, address, clusterToken } = node;
  const { maxOriginRecords = options.fabric.replication.maxOriginRecords } = node;
  const joining = {
    settings,
    options: { ...options.fabric, replication: { ...options.fabric.replication, maxOriginRecords } },
    rng: parts.rng.fork(`fabric ${node.life}`),
    address,
    tokens: { clusterToken },
    borders: options.regional?.borders ?? [],
    start: { boot: process.boot, earlierBoots },
    remembered: rememberedBy(node),
    warm,
    snapshots: { intervalMs: options.snapshotMs, isOtherThere: false, blockBytes: BLOCK_BYTES },
  };
  return joinOthers(rooms, joining, process.time());
}
