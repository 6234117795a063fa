/**
 * The interface of a part of the fabric, and the messages between parts. To add a part, write a file that implements `FabricPart` and add a row to
 * `parts.ts`.
 */
import type { MachinePart, MachineParts, PartHandlers } from "../lib/machine-part.ts";
import type { BorderCount } from "./borders/border.ts";
import type { FabricInput, FabricOutput, LinkId } from "./io-types.ts";
import type { Goodbye, Hello, MemberStatus, MemberUpdate, NodeRef, PeerIdentity } from "./wire/messages.ts";

type AskedInput = Extract<FabricInput, { readonly kind: "asked" }>;
type AnsweredInput = Extract<FabricInput, { readonly kind: "answered" }>;

/** Each kind of message is delivered to the parts that handle it, in the order of the list. */
export type FabricNews =
  /** A call from a node that is allowed to call this node. */
  | ({ readonly kind: "called" } & Omit<AskedInput, "kind">)
  /** The answer to a call that this node made. The response is removed if it came from a foreign node. */
  | ({ readonly kind: "replied" } & Omit<AnsweredInput, "kind">)
  | { readonly kind: "memberChanged"; readonly update: MemberUpdate; readonly before: MemberStatus | undefined }
  | { readonly kind: "memberForgotten"; readonly nodeId: string }
  /** The member table changed. Sent after all messages about single members. */
  | { readonly kind: "members" }
  /** A node that this node called for a push-pull exchange is up and refused the call. */
  | { readonly kind: "turnedAway"; readonly address: string; readonly why: string }
  /** The node at that address completed a push-pull exchange with this node. */
  | { readonly kind: "letIn"; readonly address: string }
  /**
   * Other nodes know this node's id with a later incarnation or at another address. Sent at most as often as the corresponding event for the
   * operator.
   */
  | { readonly kind: "ownIdUsed"; readonly told: MemberUpdate; readonly toldBy: string }
  /** This node wants links to these members and to no others. */
  | { readonly kind: "wanted"; readonly nodeIds: readonly string[] }
  /** Both sides have sent their hello. This node did not send its hello before `greetedMonoMs`. */
  | { readonly kind: "up"; readonly link: LinkId; readonly hello: Hello; readonly identity: PeerIdentity; readonly greetedMonoMs: number }
  /** A link that was up has gone down. `goodbye` is the peer's reason. Undefined when the peer did not give a reason. */
  | { readonly kind: "down"; readonly link: LinkId; readonly hello: Hello; readonly goodbye: Goodbye | undefined }
  /** This node has everything that the peer had at the given time. */
  | { readonly kind: "inStep"; readonly nodeId: string; readonly monoMs: number }
  /** Records of an origin have arrived. They may be the origin's first records. */
  | { readonly kind: "heard"; readonly origin: NodeRef }
  /** This node's links to other regions have changed. */
  | { readonly kind: "borderCounts"; readonly counts: readonly BorderCount[] };

export type FabricPart = MachinePart<FabricInput | FabricNews, FabricOutput>;
export type FabricPartList = MachineParts<FabricInput | FabricNews, FabricOutput>;
export type FabricHandlers = PartHandlers<FabricInput | FabricNews, FabricOutput>;
