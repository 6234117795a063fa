/** Stories of regions whose clusters, links or hubs are lost for a while. Each looks at what the others show of them meanwhile. */
import type { Rng } from "../../../src/lib/rng.ts";
import { Regions, SUMMARY } from "./world.ts";

/** Makes a world, and says when it ends. */
export type HardTime = (seed: string, rng: Rng) => { readonly regions: Regions; readonly endMs: number };

const { ttlMs, staleKeepMs, holdDownMs } = SUMMARY;
/** By then border links are up. */
const LINKED_MS = 8000;

/** All nodes of a cluster but one vanish at once. It lives, so others show what it said, fresh, and nothing lower, for as long as that lasts. */
export function isAlmostLost(seed: string, rng: Rng): ReturnType<HardTime> {
  const count = 2 + rng.int(2);
  const regions = new Regions(seed, { eu: { eu1: count }, us: { us1: 1 } });
  regions.start();
  const names = ["s0", "s1", "s2", "s3"];
  const nodes = regions.nodesOf("eu1");
  regions.at(LINKED_MS, () => {
    for (const name of names) for (const node of nodes) regions.put(node.name, name);
  });
  const killMs = LINKED_MS + 8000 + rng.int(3000);
  const left = nodes[rng.int(nodes.length)];
  regions.at(killMs, () => {
    for (const node of nodes) if (node !== left) node.crash({ isSilent: rng.int(2) === 0, isBatchKept: true, isDiskLost: false });
  });
  const backMs = killMs + ttlMs + staleKeepMs + 5000;
  const full = () =>
    names.flatMap((name) => {
      const { count: seen = 0, isStale } = regions.shown("us1-a")?.get(`eu1 svc/${name}`) ?? {};
      return seen === count && isStale === false
        ? []
        : [`us1-a shows ${name} with ${seen} of ${count}${isStale === true ? ", stale" : ""}`];
    });
  regions.watch(killMs - 500, backMs, full);
  regions.at(backMs, () => {
    for (const node of nodes) if (node !== left) node.start();
  });
  regions.watch(backMs, backMs + ttlMs + holdDownMs, full);
  return { regions, endMs: backMs + ttlMs + holdDownMs + 500 };
}
