/** A part of the machine of a node, and the news that parts have for each other. A new part is a file that implements `NodePart`, and a row in `list.ts`. */
import type { FabricInput, FabricOutput } from "../../../fabric/io-types.ts";
import type { Handlers, Part, Parts } from "../../../lib/part.ts";
import type { NodeInput, NodeOutput } from "../../core-io.ts";

export type NodeNews =
  /** Inputs of the fabric that other parts give. */
  | Extract<FabricInput, { readonly kind: "facts" | "lagged" | "leaving" | "offer" | "policyRefused" | "stop" }>
  /** Other nodes may have something to receive. */
  | { readonly kind: "summariesChanged" }
  /** Orders of the fabric about own records. The others leave the machine. */
  | Extract<FabricOutput, { readonly kind: "changed" | "superseded" | "generationLost" | "offered" | "ordered" }>;

export type NodePart = Part<NodeInput | NodeNews, NodeOutput>;
export type NodePartList = Parts<NodeInput | NodeNews, NodeOutput>;
export type NodeHandlers = Handlers<NodeInput | NodeNews, NodeOutput>;
