/** Verbs that show the members of the mesh, a member's history, and the replication state. */
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Peer,
  PeerDesired,
  PeerDrainStep,
  type PeerOperation,
  PeerSchema,
  PeerStatus,
} from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import {
  type LinkLag,
  LinkState,
  type OriginLag,
  OriginState,
  type PeerEvent,
  PeerEventKind,
  PeerEventPath,
  PeerEventSchema,
  PeerHealth,
  PeerService,
  PeerServiceGetResponseSchema,
  PeerServiceLagResponseSchema,
  type PeerServiceWatchResponse,
  PeerSort,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import type { ClientCalls } from "../../client/calls.ts";
import { RequestError } from "../../client/request-error.ts";
import { isKnownAge } from "../../lib/duration.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { UsageError } from "../exit.ts";
import type { Flags } from "../flags.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { CommandOutput, TableColumn } from "../output.ts";
import { readPages } from "../pages.ts";
import { followStream } from "../streams.ts";
import type { VerbFunction } from "../table/verb.ts";
import { shortDuration } from "../texts.ts";
import { cacheLag } from "./resolver.ts";
import { borderTable, noteExports, sourceTable } from "./summary-lag.ts";

const PEER_COLUMNS: readonly TableColumn<Peer>[] = [
  { title: "NODE", text: ({ nodeId, isSelf }) => (isSelf ? `${nodeId} *` : nodeId) },
  { title: "CLUSTER", text: ({ clusterId }) => clusterId },
  { title: "REGION", text: ({ region }) => region },
  { title: "ZONE", isWide: true, text: ({ zone }) => zone },
  { title: "STATUS", text: ({ status }) => enumWord(PeerStatus, status) },
  { title: "DESIRED", text: desiredText },
  { title: "LINKED", text: ({ linked, isSelf }) => (isSelf ? "-" : linked ? "yes" : "no") },
  { title: "RTT", text: ({ rtt }) => shortDuration(rtt) },
  { title: "HEALTH", isWide: true, text: ({ healthScore }) => String(healthScore) },
  { title: "INCARNATION", isWide: true, text: ({ incarnation }) => String(incarnation) },
  { title: "REPORTED BY", isWide: true, text: ({ accuser }) => accuser },
  { title: "LAST SEEN", isWide: true, text: ({ lastSeen }) => timeText(lastSeen) },
  { title: "VERSION", isWide: true, text: ({ version }) => version },
  { title: "LABELS", isWide: true, text: labelsText },
  { title: "ETAG", isWide: true, text: ({ etag }) => etag.replaceAll('"', "") },
  { title: "LAST OPERATION", isWide: true, text: ({ lastOperation }) => operationText(lastOperation) },
  { title: "ADDRESS", text: ({ address }) => address },
];

/** The desired state and the progress of the drain, such as `drained (leases: 12 left)`. */
export function desiredText({ desired, drain }: Peer): string {
  const state = enumWord(PeerDesired, desired);
  if (drain === undefined || drain.step === PeerDrainStep.DRAINED) return state;
  const step = enumWord(PeerDrainStep, drain.step);
  const left = Object.entries(drain.left).map(([kind, count]) => {
    const unit = kind.replaceAll("_", "-");
    return unit === step ? `${count} left` : `${count} ${unit} left`;
  });
  return `${state} (${step}${left.length === 0 ? "" : `: ${left.join(", ")}`}${drain.stuck ? ", stuck" : ""})`;
}

export function labelsText({ labels }: Peer): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.toSorted().join(",");
}

/** Such as `ann at 2026-01-31T12:00:00Z: new disks (OPS-7)`. */
function operationText(operation: PeerOperation | undefined): string {
  if (operation === undefined) return "";
  const { actor, at, reason, ticket } = operation;
  return `${actor} at ${timeText(at)}: ${reason}${ticket === "" ? "" : ` (${ticket})`}`;
}

export const list: VerbFunction = async ({ flags, out, client }) => {
  const filter = { ...filterOf(flags), sort: flags.enum("sort", PeerSort) };
  const { peers, servedBy } = await readPages(flags, ["peers"], (page) => client().call(PeerService.method.list, { ...filter, ...page }));
  const json = { servedBy, peers: peers.map((peer) => wholeJson(PeerSchema, peer)) };
  out.document(json, { columns: PEER_COLUMNS, rows: peers });
};

export const watch: VerbFunction = async (context) => {
  const { environment, flags, out, client } = context;
  const printer = new MemberPrinter(out);
  const open = () =>
    client().stream(PeerService.method.watch, { ...filterOf(flags), cursor: printer.cursor }, { signal: environment.interrupt });
  for await (const message of followStream(context, open)) {
    printer.print(message);
    if (flags.isOn("untilCurrent") && printer.isCurrent) return;
  }
};

/** Merges the messages of successive streams, and prints each change as one line. */
class MemberPrinter {
  readonly #out: CommandOutput;
  readonly #held = new Map<string, Peer>();
  /** Node IDs in the snapshot that is being received. Undefined between snapshots. */
  #listed: Set<string> | undefined;
  /** Cursor from which to resume after an interruption. */
  cursor = "";
  /** Whether every member has been printed once. */
  isCurrent = false;

  constructor(out: CommandOutput) {
    this.#out = out;
  }

  print({ deltas, snapshot, cursor }: PeerServiceWatchResponse): void {
    if (snapshot === Snapshot.BEGIN) this.#listed = new Set();
    for (const { payload } of deltas) {
      if (payload.case === "peer") this.#member(payload.value);
      else if (payload.case === "removed") this.#forget(payload.value);
    }
    if (snapshot === Snapshot.END) this.#end();
    if (cursor !== "") this.cursor = cursor;
  }

  #member(peer: Peer): void {
    this.#held.set(peer.nodeId, peer);
    this.#listed?.add(peer.nodeId);
    this.#line("member", peer);
  }

  #forget(nodeId: string): void {
    const peer = this.#held.get(nodeId);
    // After an interruption, the server may remove a member that was never printed.
    if (peer === undefined) return;
    this.#held.delete(nodeId);
    this.#line("gone", peer);
  }

  /** Removes members that are not in the snapshot. */
  #end(): void {
    for (const nodeId of this.#held.keys()) if (this.#listed?.has(nodeId) !== true) this.#forget(nodeId);
    this.#listed = undefined;
    this.isCurrent = true;
    this.#out.line({ event: "current" });
    if (!this.#out.isMachine) this.#out.note("all members listed; following changes");
  }

  #line(event: "member" | "gone", peer: Peer): void {
    const columns = [{ title: "EVENT", text: () => event }, ...PEER_COLUMNS];
    this.#out.line({ event, peer: wholeJson(PeerSchema, peer) }, { columns, rows: [peer] });
  }
}

const EVENT_COLUMNS: readonly TableColumn<PeerEvent>[] = [
  { title: "TIME", text: ({ at }) => timeText(at) },
  { title: "EVENT", text: ({ kind }) => enumWord(PeerEventKind, kind) },
  { title: "BY", text: ({ by }) => by },
  { title: "PATH", text: ({ path }) => enumWord(PeerEventPath, path) },
  { title: "INCARNATION", text: ({ incarnation }) => String(incarnation) },
  { title: "DETAIL", text: ({ detail }) => detail },
];

export const get: VerbFunction = async ({ args, out, client }) => {
  const { peer, json } = await member(args, client());
  out.document(json, { columns: PEER_COLUMNS, rows: peer === undefined ? [] : [peer] });
};

export const explain: VerbFunction = async ({ args, out, client }) => {
  const { peer, events, suspicionEndsAt, confirmedBy, json } = await member(args, client());
  if (!out.isMachine && peer !== undefined) {
    const seen = peer.lastSeen === undefined ? "" : `, last seen ${timeText(peer.lastSeen)}`;
    out.note(`${peer.nodeId} is ${enumWord(PeerStatus, peer.status)} at incarnation ${peer.incarnation}${seen}`);
    if (peer.accuser !== "")
      out.note(`reported as failed by ${peer.accuser}${confirmedBy.length === 0 ? "" : `, confirmed by ${confirmedBy.join(", ")}`}`);
    if (suspicionEndsAt !== undefined) out.note(`it will be considered dead at ${timeText(suspicionEndsAt)} unless it refutes the report`);
  }
  out.document(json, { columns: EVENT_COLUMNS, rows: events, whenEmpty: "no events recorded" });
};

async function member([nodeId = ""]: readonly string[], client: ClientCalls) {
  const answer = await client.call(PeerService.method.get, { nodeId });
  const events = answer.events.map((event) => wholeJson(PeerEventSchema, event));
  return { ...answer, json: { ...wholeJson(PeerServiceGetResponseSchema, answer), events } };
}

const ORIGIN_COLUMNS: readonly TableColumn<OriginLag>[] = [
  { title: "SOURCE", text: ({ nodeId }) => nodeId },
  { title: "GENERATION", text: ({ generation }) => String(generation) },
  { title: "STATE", text: ({ state }) => enumWord(OriginState, state) },
  { title: "RECEIVED", text: ({ through }) => String(through) },
  { title: "KNOWN", text: ({ known }) => String(known) },
  { title: "BEHIND", text: ({ behind }) => String(behind) },
  { title: "COMPLETE", text: ({ whyPartial }) => (whyPartial === "" ? "yes" : "no") },
  { title: "FLOOR", isWide: true, text: ({ floor }) => String(floor) },
  { title: "REFUSED", isWide: true, text: ({ refused }) => String(refused) },
  { title: "REASON", isWide: true, text: ({ whyPartial }) => whyPartial },
];

const LINK_COLUMNS: readonly TableColumn<LinkLag>[] = [
  { title: "PEER", text: ({ nodeId }) => (nodeId === "" ? "-" : nodeId) },
  { title: "STATE", text: ({ state }) => enumWord(LinkState, state) },
  { title: "OPENED BY", isWide: true, text: ({ incoming }) => (incoming ? "peer" : "this node") },
  { title: "CAUGHT UP", text: ({ caughtUp }) => (caughtUp ? "yes" : "no") },
  { title: "BEHIND", text: ({ behind }) => String(behind) },
  { title: "BEHIND FOR", text: ({ behindFor }) => shortDuration(behindFor) },
  { title: "ADDRESS", text: ({ address }) => address },
];

export const lag: VerbFunction = async (asked) => {
  try {
    await nodeLag(asked);
  } catch (error) {
    // A resolver does not have source nodes of its own. Its cache statistics show its lag.
    if (!(error instanceof RequestError) || error.facts.code !== "UNIMPLEMENTED") throw error;
    await cacheLag(asked);
  }
};

const nodeLag: VerbFunction = async ({ flags, out, client }) => {
  if (["links", "borders", "sources"].filter((flag) => flags.isOn(flag)).length > 1)
    throw new UsageError("--links, --borders and --sources cannot be combined");
  const answer = await readPages(flags, ["origins"], (page) => client().call(PeerService.method.lag, page));
  const json = wholeJson(PeerServiceLagResponseSchema, answer);
  if (!out.isMachine) {
    const { age: since } = answer;
    const isFresh = since === undefined || (since.seconds === 0n && since.nanos === 0);
    const age = isFresh ? "" : `; ${ageWords(since)}`;
    out.note(`${answer.servedBy} is ${answer.ready ? "ready" : "not ready"}${answer.detail === "" ? "" : `: ${answer.detail}`}${age}`);
    if (answer.originsProtected)
      out.note("many nodes of a cluster disappeared at the same time, so their entries are kept visible (self-preservation)");
  }
  if (!out.isMachine && answer.exports !== undefined) noteExports(out, answer, answer.exports);
  if (flags.isOn("borders")) out.document(json, borderTable(answer));
  else if (flags.isOn("sources")) out.document(json, sourceTable(answer));
  else if (flags.isOn("links")) out.document(json, { columns: LINK_COLUMNS, rows: answer.links, whenEmpty: "no links to other nodes" });
  else
    out.document(json, { columns: ORIGIN_COLUMNS, rows: answer.origins, whenEmpty: "no source nodes: no entry has been registered yet" });
};

/** The filter of the members. */
function filterOf(flags: Flags) {
  return {
    statuses: flags.enums("status", PeerStatus),
    health: flags.enums("health", PeerHealth),
    desired: flags.enums("desired", PeerDesired),
    clusterId: flags.text("clusterId") ?? "",
    region: flags.text("region") ?? "",
    zone: flags.text("zone") ?? "",
    roles: [...flags.list("role")],
    version: flags.text("softwareVersion") ?? "",
    labelSelector: flags.text("label") ?? "",
  };
}

function ageWords(age: Duration): string {
  return isKnownAge(durationMs(age)) ? `its data may be up to ${shortDuration(age)} old` : "the age of its data is not known yet";
}
