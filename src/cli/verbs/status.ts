/** The verb that shows the whole cluster, with everything that is wrong with it first. */
import { create } from "@bufbuild/protobuf";
import { PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import {
  type Finding,
  FindingSchema,
  FindingSeverity,
  PeerService,
  type PeerServiceStatusResponse,
  PeerServiceStatusResponseSchema,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { askNodes, clusterNodes, type FailedNode } from "../cluster-nodes.ts";
import { EXIT } from "../exit.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import type { VerbFunction } from "../table/verb.ts";
import { shortDuration } from "../texts.ts";
import { desiredText } from "./mesh.ts";

/** A node that does not answer for longer is reported as not answering. */
const TIMEOUT_MS = 2000;

/** A finding, and the nodes that report it. */
interface ReportedFinding {
  readonly finding: Finding;
  readonly reporters: readonly string[];
}

interface NodeRow {
  readonly nodeId: string;
  readonly answer: PeerServiceStatusResponse | undefined;
}

const FINDING_COLUMNS: readonly TableColumn<ReportedFinding>[] = [
  { title: "SEVERITY", text: ({ finding }) => enumWord(FindingSeverity, finding.severity) },
  { title: "NODE", text: ({ finding }) => finding.subject },
  { title: "FINDING", text: ({ finding }) => finding.id },
  { title: "EVIDENCE", text: ({ finding }) => finding.evidence },
  { title: "REPORTED BY", isWide: true, text: ({ reporters }) => reporters.join(", ") },
  { title: "RUNBOOK", text: ({ finding }) => finding.runbook },
  { title: "COMMAND", isWide: true, text: ({ finding }) => finding.command },
];

const NODE_COLUMNS: readonly TableColumn<NodeRow>[] = [
  { title: "NODE", text: ({ nodeId }) => nodeId },
  { title: "STATE", text: ({ answer }) => (answer === undefined ? "no answer" : answer.ready ? "ready" : "not ready") },
  { title: "DESIRED", text: ({ answer }) => (answer?.peer === undefined ? "-" : desiredText(answer.peer)) },
  { title: "ZONE", isWide: true, text: ({ answer }) => answer?.peer?.zone ?? "-" },
  { title: "VERSION", text: ({ answer }) => answer?.peer?.version ?? "-" },
  { title: "BEHIND", text: ({ answer }) => (answer === undefined ? "-" : String(answer.behind)) },
  { title: "AGE", isWide: true, text: ({ answer }) => shortDuration(answer?.age) },
  { title: "POLICY", text: ({ answer }) => (answer === undefined ? "-" : String(answer.policyNumber)) },
  { title: "SETTINGS", text: ({ answer }) => answer?.configDigest.slice(0, 8) ?? "-" },
  { title: "LEADER", text: ({ answer }) => answer?.leader || "-" },
  { title: "CERTIFICATE ENDS", text: ({ answer }) => timeText(answer?.certificateExpiresAt) || "-" },
];

export const status: VerbFunction = async ({ out, client }) => {
  const { status: method } = PeerService.method;
  const members = (await clusterNodes(client())).filter((node) => node.status !== PeerStatus.LEFT);
  const { answers, failed } = await askNodes(members, (server) => client().callAt(server, method, {}, { timeoutMs: TIMEOUT_MS }));
  const findings = reported(answers, failed);
  const known = new Map(answers.map(({ node, answer }) => [node, answer]));
  const rows = members.map(({ nodeId }): NodeRow => ({ nodeId, answer: known.get(nodeId) }));
  const json = {
    findings: findings.map(({ finding, reporters }) => ({ ...wholeJson(FindingSchema, finding), reporters })),
    nodes: rows.map(({ nodeId, answer }) => ({ nodeId, status: answer && wholeJson(PeerServiceStatusResponseSchema, answer) })),
    failed,
  };
  if (!out.isMachine && findings.length > 0) out.document(json, { columns: FINDING_COLUMNS, rows: findings });
  out.document(json, { columns: NODE_COLUMNS, rows });
  out.note(findings.length === 0 ? `${counted(rows.length, "node")}; no findings` : counted(findings.length, "finding"));
  return findings.length === 0 ? EXIT.done : EXIT.failed;
};

/** The findings of all nodes, each once, and a finding for each node that did not answer. Most severe first. */
function reported(
  answers: readonly { readonly node: string; readonly answer: PeerServiceStatusResponse }[],
  failed: readonly FailedNode[],
): readonly ReportedFinding[] {
  const found = new Map<string, ReportedFinding>();
  for (const { node, answer } of answers)
    for (const finding of answer.findings) {
      const key = `${finding.id} ${finding.subject}`;
      const { reporters = [], finding: first = finding } = found.get(key) ?? {};
      found.set(key, { finding: first, reporters: [...reporters, node] });
    }
  const silent = failed.map(({ node, error }) => ({ finding: noAnswer(node, error), reporters: [] }));
  return [...silent, ...found.values()].toSorted((a, b) => a.finding.severity - b.finding.severity);
}

function noAnswer(subject: string, error: string): Finding {
  const advice = { runbook: "missing-nodes", command: `waymark mesh peers explain ${subject}` };
  const evidence = `did not answer: ${error}`;
  return create(FindingSchema, { id: "no_answer", severity: FindingSeverity.CRITICAL, subject, evidence, ...advice });
}
