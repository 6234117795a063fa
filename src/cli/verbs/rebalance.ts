/** Verbs that balance the shards of namespaces: plans, their approval, and times in which no shard moves. */
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type RebalancePlan, RebalanceService, RebalanceState } from "../../../gen/waymark/control/v1/rebalance_pb.js";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { CommandError, UsageError } from "../exit.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { CommandOutput, TableColumn } from "../output.ts";
import { readPages } from "../pages.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";

const { method } = RebalanceService;

const COLUMNS: readonly TableColumn<RebalancePlan>[] = [
  { title: "PLAN", text: ({ id }) => id || "-" },
  { title: "STATE", text: ({ state }) => enumWord(RebalanceState, state) },
  { title: "MOVED", text: ({ movedCount, totalCount }) => `${movedCount}/${totalCount}` },
  { title: "CHECKSUM", text: ({ checksum }) => checksum },
  { title: "CREATED AT", text: ({ createdAt }) => timeText(createdAt) },
  { title: "BY", text: ({ author }) => author },
  { title: "APPROVED BY", text: ({ approvedBy }) => approvedBy || "-" },
  { title: "EPOCH", isWide: true, text: ({ epoch }) => String(epoch) },
  { title: "TICKET", isWide: true, text: ({ ticket }) => ticket },
  { title: "REASON", text: ({ reason }) => reason },
  { title: "DETAIL", text: ({ detail }) => detail },
];

export const rebalance: VerbFunction = async ({ args: [namespace = ""], flags, out, client }) => {
  const [reason = "", ticket = ""] = [flags.text("reason"), flags.text("ticket")];
  const asked = { namespace, dryRun: flags.isOn("dryRun"), force: flags.isOn("force"), reason, ticket };
  const answer = await client().call(method.propose, asked);
  noteMoves(out, answer.plan);
  out.document(wholeJson(method.propose.output, answer), planTable(answer));
};

export const plans: VerbFunction = async ({ args: [namespace = ""], out, ...context }) => {
  const answer = await readPlans(context, namespace);
  out.document(wholeJson(method.listPlans.output, answer), { columns: COLUMNS, rows: answer.plans, whenEmpty: "no plans" });
  if (!out.isMachine)
    out.note(
      `${namespace}: ${enumWord(RebalanceState, answer.state)}${answer.frozenUntil ? `, frozen until ${timeText(answer.frozenUntil)}` : ""}`,
    );
};

export const approve: VerbFunction = async ({ args: [planId = ""], flags, out, client }) => {
  const namespace = namespaceOf(planId);
  let checksum = flags.text("checksum");
  if (checksum === undefined) {
    const plan = (await readPlans({ flags, client }, namespace)).plans.find(({ id }) => id === planId);
    if (plan === undefined) throw new CommandError(`there is no plan ${planId}: list them with waymark mesh shards plans ${namespace}`);
    noteMoves(out, plan);
    ({ checksum } = plan);
  }
  const reason = flags.text("reason") ?? "";
  const answer = await client().call(method.approve, { namespace, planId, checksum, reason });
  out.document(wholeJson(method.approve.output, answer), planTable(answer));
};

export const cancel: VerbFunction = async ({ args: [planId = ""], flags, out, client }) => {
  const asked = { namespace: namespaceOf(planId), planId, reason: flags.text("reason") ?? "" };
  const answer = await client().call(method.cancel, asked);
  out.document(wholeJson(method.cancel.output, answer), planTable(answer));
};

export const freeze: VerbFunction = async ({ args: [namespace = ""], flags, out, client }) => {
  const [reason = "", ticket = ""] = [flags.text("reason"), flags.text("ticket")];
  const asked = { namespace, duration: durationFromMs(flags.durationMs("for") ?? 0), reason, ticket };
  const answer = await client().call(method.freeze, asked);
  out.document(wholeJson(method.freeze.output, answer), {
    columns: [
      { title: "NAMESPACE", text: () => namespace },
      { title: "FROZEN UNTIL", text: ({ frozenUntil }) => timeText(frozenUntil) || "-" },
      { title: "EPOCH", text: ({ epoch }) => String(epoch) },
    ],
    rows: [answer],
  });
};

/** Reads the plans of a namespace, newest first. */
function readPlans({ flags, client }: Pick<VerbContext, "client" | "flags">, namespace: string) {
  return readPages(flags, ["plans"], (page) => client().call(method.listPlans, { namespace, ...page }));
}

/** The id of a plan starts with its namespace. */
function namespaceOf(planId: string): string {
  const at = planId.indexOf("/");
  if (at < 1) throw new UsageError(`invalid plan ${planId}: expected an id such as orders/41-1f0c9a3e, which mesh shards plans shows`);
  return planId.slice(0, at);
}

function planTable({ plan }: { readonly plan?: RebalancePlan | undefined }) {
  return { columns: COLUMNS, rows: plan === undefined ? [] : [plan] };
}

/** Prints the shards of a plan, by their owners. */
function noteMoves(out: CommandOutput, plan: RebalancePlan | undefined): void {
  if (out.isMachine || plan === undefined) return;
  const groups = Map.groupBy(plan.moves, ({ before, after }) => `from ${before} to ${after}`);
  for (const [owners, moves] of groups) out.note(`${counted(moves.length, "shard")} ${owners}: ${moves.map(({ id }) => id).join(", ")}`);
}
