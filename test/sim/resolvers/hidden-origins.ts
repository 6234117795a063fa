/** Which nodes' entries other nodes hid, because they had been away for long, and until when. */
import type { FabricEvent } from "../../../src/fabric/io-types.ts";
import type { SimNode } from "../sim-node.ts";
import { EventCounter } from "../simulation.ts";
import type { World } from "../world.ts";

export class HiddenOrigins extends EventCounter {
  readonly #world: World;
  /** By the node that hid and the one whose entries these are: until when, in true time. */
  readonly #untilMs = new Map<string, number>();

  constructor(world: World) {
    super(new Map());
    this.#world = world;
  }

  /** Whether some node has hidden the entries of this one at that time or since. */
  isHiddenSince(node: number, sinceMs: number): boolean {
    return [...this.#untilMs].some(([pair, untilMs]) => pair.endsWith(` n${node}`) && untilMs >= sinceMs);
  }

  override event(node: SimNode, event: FabricEvent): void {
    super.event(node, event);
    if (event.name !== "origin_hidden" && event.name !== "origin_back") return;
    this.#untilMs.set(
      `${node.name} ${event.detail["nodeId"]}`,
      event.name === "origin_hidden" ? Number.POSITIVE_INFINITY : this.#world.nowMs,
    );
  }
}
