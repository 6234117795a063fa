/** Stars: hubs that reach everybody, and spokes that reach the hubs only. */
import { FabricWorld, type WorldNode } from "./fabric-world.ts";
import { FABRIC_OPTIONS } from "./options.ts";

export interface StarReport {
  /** Nodes that have not heard of an entry of the last spoke 5 s after it was put. */
  readonly unaware: readonly string[];
  /** The oldest age of answers at any node, two minutes after the start, ms. */
  readonly ageMs: number;
  /** Members that each node knows for alive at the end. */
  readonly aliveCounts: readonly number[];
  /** Words that somebody is suspect, or dead, at all nodes together. */
  readonly suspectCount: number;
  readonly deadCount: number;
  /** At the node with the most links. */
  readonly linkCount: number;
}

/** Two minutes of a star. */
export function runStar(count: number, hubCount: number, maxLinks = FABRIC_OPTIONS.links.maxLinks): StarReport {
  const world = new FabricWorld();
  world.reaches = (from, to) => isHub(from) || isHub(to);
  const options = { links: { ...FABRIC_OPTIONS.links, maxLinks } };
  const nodes = Array.from({ length: count }, (_, i) =>
    world.start({ nodeId: i < hubCount ? `hub${i}` : `s${i}`, seeds: i === 0 ? [] : ["hub0:1"], options }),
  );
  world.run(60_000);
  nodes.at(-1)?.put("web");
  world.run(5000);
  const unaware = nodes.filter((node) => !node.view().includes("web")).map(({ spec }) => spec.nodeId);
  world.run(60_000);
  const words = nodes.flatMap(({ outputs }) => outputs.flatMap((output) => (output.kind === "memberChanged" ? output.update.status : [])));
  return {
    unaware,
    ageMs: Math.max(...nodes.map((node) => node.fabric.readiness.read(world.time()).ageMs)),
    aliveCounts: nodes.map(({ fabric }) => fabric.membership.listed().filter(({ status }) => status === "alive").length),
    suspectCount: words.filter((status) => status === "suspect").length,
    deadCount: words.filter((status) => status === "dead").length,
    linkCount: Math.max(...nodes.map(({ fabric }) => fabric.links().length)),
  };
}

function isHub({ spec }: WorldNode): boolean {
  return spec.nodeId.startsWith("hub");
}
