/** Answers to the calls of real nodes with each field, one at a time, at the ends of what it can hold. */
import { type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import {
  LinkResponseSchema,
  ProbeIndirectResponseSchema,
  ProbeResponseSchema,
  PushPullResponseSchema,
} from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { encodeCallResponse } from "../../src/fabric/wire/call-codec.ts";
import { encodeLinkFrame } from "../../src/fabric/wire/codec.ts";
import { helloOf, nodeRef, updateOf } from "./fabric-values.ts";
import { type Change, changesOf } from "./field-ends.ts";

interface Answer {
  readonly desc: DescMessage;
  readonly changes: readonly Change[];
  readonly sample: (peer: Place) => Uint8Array;
}

interface Place {
  readonly nodeId: string;
  readonly address: string;
}

const alive = ({ nodeId, address }: Place) => updateOf(nodeId, { address, clusterId: "c1", region: "eu" });

function answerOf(desc: DescMessage, name: string, sample: Answer["sample"], isOfIt: (what: string) => boolean = () => true): Answer {
  // Which start goes under this node's id is for its own cluster to say, and keeps it from being ready (semantics.md, Two nodes with one id).
  const changes = changesOf(desc, name, "all").filter(({ what }) => !what.includes(".held_start") && isOfIt(what));
  return { desc, changes, sample };
}

const ANSWERS: Readonly<Record<string, Answer>> = {
  Probe: answerOf(ProbeResponseSchema, "Probe", (peer) =>
    encodeCallResponse({ kind: "probe", from: nodeRef(peer.nodeId), updates: [alive(peer)], wallMs: Date.now() }),
  ),
  ProbeIndirect: answerOf(ProbeIndirectResponseSchema, "ProbeIndirect", (peer) =>
    encodeCallResponse({ kind: "probeIndirect", isAcknowledged: true, updates: [alive(peer)] }),
  ),
  PushPull: answerOf(PushPullResponseSchema, "PushPull", (peer) =>
    encodeCallResponse({
      kind: "pushPull",
      from: nodeRef(peer.nodeId),
      members: [alive(peer)],
      lost: [{ nodeId: "gone", generation: 1, through: 5, mark: 0 }],
    }),
  ),
  // A link is answered with a greeting or a farewell.
  Link: answerOf(
    LinkResponseSchema,
    "Link",
    ({ nodeId, address }) => encodeLinkFrame({ kind: "hello", hello: helloOf(nodeId, { address }) }),
    (what) => /^Link\.frame (absent|empty)|^Link\.frame\.(hello|goodbye)\b/.test(what),
  ),
};

/** The answer of that method as it should be. */
export function honestAnswer(method: string, peer: Place): Uint8Array | undefined {
  return ANSWERS[method]?.sample(peer);
}

/** How many answers of a method there are. */
export function changeCount(method: string): number {
  return ANSWERS[method]?.changes.length ?? 0;
}

/** The answer of that method with the nth of its changes; after the last one they begin anew. */
export function changed(method: string, n: number, peer: Place): Uint8Array | undefined {
  const answer = ANSWERS[method];
  if (answer === undefined) return undefined;
  const message = fromBinary(answer.desc, answer.sample(peer));
  answer.changes[n % answer.changes.length]?.make(reflect(answer.desc, message));
  return toBinary(answer.desc, message);
}
