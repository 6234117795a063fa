/** Verbs that take nodes out of service and back, change their labels, and forget them. */
import { randomUUID } from "node:crypto";
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type Peer, PeerDesired, PeerDrainStep, PeerSchema, PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import {
  type BlastRadius,
  BlastRadiusSchema,
  PeerService,
  type PeerServiceUncordonRequest,
  type PeerServiceUncordonResponse,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { RequestError } from "../../client/request-error.ts";
import { nodesNamedIn } from "../../client/servers/server-list.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { askNodes, clusterNodes, type FailedNode } from "../cluster-nodes.ts";
import { CommandError, EXIT, type ExitCode, UsageError } from "../exit.ts";
import { wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import { followStream } from "../streams.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";
import { labelsText } from "./mesh.ts";

const { method } = PeerService;

/** Calls an rpc on a server of the command or, if only the node itself accepts the operation, on the node. */
type NodeCall = <I extends DescMessage, O extends DescMessage>(
  rpc: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
) => Promise<MessageShape<O>>;

/** The fields of all requests. */
type OperationRequest = Pick<PeerServiceUncordonRequest, "dryRun" | "etag" | "nodeId" | "reason" | "requestId" | "ticket">;

/** There is no radius for labels. */
interface OperationAnswer extends Pick<PeerServiceUncordonResponse, "peer" | "radius"> {
  /** The nodes on which the operation was not carried out. Absent if one node carries it out for all. */
  readonly failed?: readonly FailedNode[];
}

/** Sends a request. `planned` is the answer to the dry run, which comes first. */
type Operation = (call: NodeCall, request: OperationRequest, planned?: OperationAnswer) => Promise<OperationAnswer>;

const COLUMNS: readonly TableColumn<Peer>[] = [
  { title: "NODE", text: ({ nodeId }) => nodeId },
  { title: "STATUS", text: ({ status }) => enumWord(PeerStatus, status) },
  { title: "DESIRED", text: ({ desired }) => enumWord(PeerDesired, desired) },
  { title: "ETAG", text: ({ etag }) => etag || "-" },
  { title: "LABELS", text: (peer) => labelsText(peer) || "-" },
];

export const cordon: VerbFunction = async (context) => {
  const force = context.flags.isOn("force");
  return (await operate(context, (call, request) => call(method.cordon, { ...request, force }))).exit;
};

export const uncordon: VerbFunction = async (context) => (await operate(context, (call, request) => call(method.uncordon, request))).exit;

export const drain: VerbFunction = async (context) => {
  const { flags } = context;
  const deadlineMs = flags.durationMs("deadline");
  const more = { force: flags.isOn("force"), ...(deadlineMs !== undefined && { deadline: durationFromMs(deadlineMs) }) };
  const { exit, peer } = await operate(context, (call, request) => call(method.drain, { ...request, ...more }));
  return peer === undefined || !flags.isOn("watch") ? exit : followDrain(context, peer);
};

export const label: VerbFunction = async (context) => {
  const changes = changesIn(context.args.slice(1));
  return (await operate(context, (call, request) => call(method.setLabels, { ...request, ...changes }))).exit;
};

/** Parses `key=value`, which sets a label, and `key-`, which removes it, as kubectl does. */
function changesIn(texts: readonly string[]) {
  const labels: Record<string, string> = {};
  const remove: string[] = [];
  for (const text of texts) {
    const { key, value, removed } = /^(?:(?<key>[^=]+)=(?<value>.*)|(?<removed>[^=]+)-)$/s.exec(text)?.groups ?? {};
    if (removed !== undefined) remove.push(removed);
    else if (key === undefined || value === undefined)
      throw new UsageError(`invalid label ${text}: expected key=value, or key- to remove the label`);
    else labels[key] = value;
  }
  return { labels, remove };
}

export const forget: VerbFunction = async (context) => {
  const { exit, peer } = await operate(context, async (call, request, planned) => {
    try {
      // The answer has no etag if the nodes do not share a control store.
      if (planned?.peer?.etag !== "") return await call(method.forget, request);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    // Other nodes can still know a member that this node has forgotten.
    return forgetOnAll(context, request, planned);
  });
  if (peer !== undefined) context.out.note(`forget revokes no certificate or token of ${peer.nodeId}: a node that has one can join again`);
  return exit;
};

const isNotFound = (error: unknown): boolean => error instanceof RequestError && error.facts.code === "NOT_FOUND";

/** Sends a request to every node, because each node has a control store of its own. A dry run fails if no node knows the member. */
async function forgetOnAll({ client }: VerbContext, request: OperationRequest, planned?: OperationAnswer): Promise<OperationAnswer> {
  const nodes = (await clusterNodes(client())).filter(({ nodeId, status }) => nodeId !== request.nodeId && status !== PeerStatus.LEFT);
  const { answers, failed } = await askNodes(nodes, async (server): Promise<OperationAnswer> => {
    try {
      return await client().callAt(server, method.forget, request);
    } catch (error) {
      // The node has already forgotten the member.
      if (request.dryRun || !isNotFound(error)) throw error;
      return {};
    }
  });
  return request.dryRun ? { ...answers[0]?.answer } : { ...planned, failed };
}

/** Makes a dry run, shows its effects, asks the user, and carries out the operation. `peer` is absent if it was not carried out. */
async function operate(context: VerbContext, run: Operation): Promise<{ readonly exit: ExitCode; readonly peer?: Peer | undefined }> {
  const { environment, flags, out } = context;
  const { ask } = environment;
  const isDryRun = flags.isOn("dryRun");
  const needsAnswer = !isDryRun && !flags.isOn("yes");
  if (needsAnswer && ask === undefined)
    throw new UsageError("add --yes, because there is no terminal to confirm the operation on, or --dry-run");
  const [nodeId = ""] = context.args;
  const request = {
    nodeId,
    reason: flags.text("reason") ?? "",
    ticket: flags.text("ticket") ?? "",
    etag: flags.text("etag") ?? "",
    requestId: flags.text("requestId") ?? randomUUID(),
  };
  const call = nodeCall(context, nodeId);
  const planned = await run(call, { ...request, dryRun: true });
  if (planned.radius !== undefined) out.note(radiusText(nodeId, planned.radius));
  if (isDryRun) return { exit: show(context, planned) };
  if (needsAnswer && !/^\s*y(?:es)?\s*$/i.test((await ask?.("Continue? [y/N] ")) ?? "")) throw new CommandError("nothing was changed");
  // Another operation since the dry run is a conflict, because its effects were not shown.
  const etag = request.etag || (planned.peer?.etag ?? "");
  const answer = await run(call, { ...request, etag, dryRun: false }, planned);
  // The lines of the progress follow instead of one document.
  return { exit: flags.isOn("watch") ? EXIT.done : show(context, answer), peer: answer.peer };
}

function show({ out }: VerbContext, { peer, radius, failed }: OperationAnswer): ExitCode {
  const json = {
    ...(peer !== undefined && { peer: wholeJson(PeerSchema, peer) }),
    ...(radius !== undefined && { radius: wholeJson(BlastRadiusSchema, radius) }),
    ...(failed !== undefined && { failed }),
  };
  out.document(json, { columns: COLUMNS, rows: peer === undefined ? [] : [peer] });
  for (const { node, error } of failed ?? []) out.error(`${node} did not forget the node: ${error}`);
  return failed === undefined || failed.length === 0 ? EXIT.done : EXIT.failed;
}

function nodeCall({ client, out }: VerbContext, nodeId: string): NodeCall {
  let server: string | undefined;
  return async (rpc, request) => {
    if (server !== undefined) return client().callAt(server, rpc, request);
    try {
      return await client().call(rpc, request);
    } catch (error) {
      const isElsewhere = error instanceof RequestError && error.facts.reason === "WRONG_NODE";
      [server] = isElsewhere ? nodesNamedIn(error.facts.metadata["urls"] ?? "") : [];
      if (server === undefined) throw error;
      out.note(`the nodes do not share a control store: sending the operation to ${nodeId} at ${server}`);
      return client().callAt(server, rpc, request);
    }
  };
}

const SHOWN_PRINCIPALS = 3;

function radiusText(nodeId: string, radius: BlastRadius): string {
  const { leasedEntries, staticEntries, principals, leadershipCount, shardCount, readyInCluster, readyInZone, unknown } = radius;
  const named = principals.slice(0, SHOWN_PRINCIPALS).map(({ principal, entries }) => `${principal || "anonymous"} ${entries}`);
  const most = [...named, ...(principals.length > SHOWN_PRINCIPALS ? ["…"] : [])].join(", ");
  const owners = principals.length === 0 ? "" : ` of ${counted(principals.length, "principal")} (${most})`;
  const leads = `leads ${counted(Number(leadershipCount), "scope")}, and serves the owners of ${counted(Number(shardCount), "shard")}`;
  const remain = `${counted(readyInCluster, "other ready node")} in the cluster, ${readyInZone} in its zone`;
  const hidden = unknown.length === 0 ? "" : `; unknown: ${unknown.join(", ")}`;
  return `${nodeId} has ${leasedEntries} leased and ${staticEntries} static entries${owners}, ${leads}; ${remain}${hidden}`;
}

const DRAIN_COLUMNS: readonly TableColumn<Peer>[] = [
  { title: "NODE", text: ({ nodeId }) => nodeId },
  { title: "STATUS", text: ({ status }) => enumWord(PeerStatus, status) },
  { title: "STEP", text: ({ drain: progress }) => enumWord(PeerDrainStep, progress?.step ?? 0) },
  { title: "LEFT", text: leftText },
];

/** `12 leases, 3 watches` */
function leftText({ drain: progress }: Peer): string {
  const kinds = Object.entries(progress?.left ?? {});
  return kinds.map(([kind, count]) => `${count} ${kind.replaceAll("_", " ")}`).join(", ") || "-";
}

/** Prints the progress of a drain until it ends. Throws if it is stuck or cancelled. */
async function followDrain(context: VerbContext, { nodeId, clusterId, drain: before }: Peer): Promise<ExitCode> {
  const { environment, out, client } = context;
  let cursor = "";
  let printed = "";
  let hasBegun = false;
  // A drain that was stuck has a new deadline, which the node does not know yet.
  let wasStuck = before?.stuck === true;
  const open = () => client().stream(method.watch, { clusterId, cursor }, { signal: environment.interrupt });
  for await (const message of followStream(context, open)) {
    if (message.cursor !== "") ({ cursor } = message);
    for (const { payload } of message.deltas) {
      if (payload.case !== "peer" || payload.value.nodeId !== nodeId) continue;
      const peer = payload.value;
      const { drain: progress, desired, lastOperation } = peer;
      const isDrained = desired === PeerDesired.DRAINED;
      // The answer of the server can be older than the operation.
      hasBegun ||= isDrained;
      if (hasBegun && !isDrained)
        throw new CommandError(`the drain was cancelled${lastOperation ? ` by ${lastOperation.actor}: ${lastOperation.reason}` : ""}`);
      if (!isDrained || progress === undefined) continue;
      const line = DRAIN_COLUMNS.map(({ text }) => text(peer)).join();
      if (line !== printed) out.line({ peer: wholeJson(PeerSchema, peer) }, { columns: DRAIN_COLUMNS, rows: [peer] });
      printed = line;
      if (progress.step === PeerDrainStep.DRAINED) return EXIT.done;
      wasStuck &&= progress.stuck;
      if (progress.stuck && !wasStuck)
        throw new CommandError(`the drain is stuck: its deadline has passed; it continues; left: ${leftText(peer)}`);
    }
  }
  out.note(`the drain of ${nodeId} continues`);
  return EXIT.failed;
}
