/** A part of a node's machine, driven as the machine drives it. */
import type { Time } from "../../src/lib/machine.ts";
import { MachineParts } from "../../src/lib/machine-part.ts";
import type { NodeInput, NodeNews, NodeOutput, NodePart, NodePartList } from "../../src/node/core-io.ts";

/** Gives the part an input, and lets it do what is due; returns what it orders. */
export function driven(part: NodePart): (input: NodeInput | NodeNews, time: Time) => readonly NodeOutput[] {
  const list: NodePartList = new MachineParts();
  list.add([part]);
  return (input, time) => {
    const out: NodeOutput[] = [];
    list.handle(input, time, out);
    return out;
  };
}
