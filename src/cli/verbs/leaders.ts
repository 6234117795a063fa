/** Verbs that show the leaders of a cluster, make them resign, and raise the epoch of the control store. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Leader,
  LeaderEventKind,
  LeaderScopeKind,
  LeadershipService,
  LeadershipServiceListResponseSchema,
  LeadershipServiceRaiseStoreEpochResponseSchema,
  LeadershipServiceResignResponseSchema,
  type LeadershipServiceSubscribeResponse,
  LeadershipServiceSubscribeResponseSchema,
  StoreKind,
  type StoreStatus,
} from "../../../gen/waymark/control/v1/leadership_pb.js";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { timeText, wholeJson } from "../messages.ts";
import type { TableColumn } from "../output.ts";
import { readPages } from "../pages.ts";
import { followStream } from "../streams.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";
import { shortDuration } from "../texts.ts";

const { method } = LeadershipService;

const COLUMNS: readonly TableColumn<Leader>[] = [
  { title: "SCOPE", text: ({ scope }) => scope },
  { title: "HOLDER", text: ({ holderId }) => (holderId === "" ? "-" : holderId) },
  { title: "NODE", text: ({ nodeId }) => nodeId },
  { title: "TERM", text: ({ term }) => String(term) },
  { title: "FENCE", text: ({ fence }) => (fence === undefined ? "-" : `${fence.failoverVersion}.${fence.storeEpoch}.${fence.number}`) },
  { title: "SINCE", text: ({ issuedAt }) => timeText(issuedAt) },
  { title: "EXPIRES", text: ({ expiresAt }) => timeText(expiresAt) },
  { title: "REASON", text: ({ reason, resignReason }) => (resignReason === "" ? reason : `asked to resign: ${resignReason}`) },
];

const EVENT_COLUMNS: readonly TableColumn<LeadershipServiceSubscribeResponse>[] = [
  { title: "EVENT", text: ({ kind }) => enumWord(LeaderEventKind, kind) },
  ...COLUMNS.filter(({ title }) => title !== "EXPIRES").map(({ title, text }): TableColumn<LeadershipServiceSubscribeResponse> => {
    const textWithout = (detail: string) => (title === "REASON" ? detail : "");
    return { title, text: ({ leader, detail }) => (leader === undefined ? textWithout(detail) : text(leader)) };
  }),
];

export const list: VerbFunction = async (context) => {
  await show(context);
};

export const status: VerbFunction = async (context) => {
  if (context.flags.isOn("watch")) {
    await watch(context);
    return;
  }
  const { store, servedBy } = await show(context);
  if (!context.out.isMachine && store !== undefined) context.out.note(storeLine(store, servedBy));
};

/** Shards are shown only if a scope asks for them, because a set can have thousands. */
function isNoShard({ kind }: Leader): boolean {
  return kind !== LeaderScopeKind.SHARD;
}

/** Prints the leaders, and returns the answer. */
async function show({ flags, client, out }: VerbContext) {
  const scopePrefix = flags.text("scope") ?? "";
  const answer = await readPages(flags, ["leaders"], (page) => client().call(method.list, { scopePrefix, ...page }));
  const json = wholeJson(LeadershipServiceListResponseSchema, answer);
  const rows = scopePrefix === "" ? answer.leaders.filter(isNoShard) : answer.leaders;
  out.document(json, { columns: COLUMNS, rows, whenEmpty: "no leaders" });
  const shardCount = answer.leaders.length - rows.length;
  if (shardCount > 0 && !out.isMachine)
    out.note(`and ${counted(shardCount, "shard")}: show them with --scope shard, or with waymark mesh shards list`);
  return answer;
}

function storeLine({ kind, epoch, age, fault }: StoreStatus, servedBy: string): string {
  const isAway = age !== undefined && durationMs(age) > 0;
  const silence = isAway ? `, has not answered ${servedBy} for ${shortDuration(age)}` : "";
  return `control store: ${enumWord(StoreKind, kind)}, epoch ${epoch}${silence}${fault === "" ? "" : `; ${servedBy} is not a candidate: ${fault}`}`;
}

async function watch(context: VerbContext): Promise<void> {
  const { environment, flags, out, client } = context;
  const scope = flags.text("scope");
  const scopes = scope === undefined ? [] : [scope];
  let afterId = 0n;
  const open = () => client().stream(method.subscribe, { scopes, afterId }, { signal: environment.interrupt });
  for await (const event of followStream(context, open)) {
    if (scope !== undefined || event.leader === undefined || isNoShard(event.leader))
      out.line(wholeJson(LeadershipServiceSubscribeResponseSchema, event), { columns: EVENT_COLUMNS, rows: [event] });
    if (event.id > 0n) afterId = event.id;
  }
}

export const resign: VerbFunction = async ({ args: [scope = ""], flags, out, client }) => {
  const answer = await client().call(method.resign, { scope, reason: flags.text("reason") ?? "" });
  const rows = answer.leader === undefined ? [] : [answer.leader];
  out.document(wholeJson(LeadershipServiceResignResponseSchema, answer), { columns: COLUMNS, rows, whenEmpty: `${scope} has no leader` });
};

export const raiseStoreEpoch: VerbFunction = async ({ flags, out, client }) => {
  const answer = await client().call(method.raiseStoreEpoch, { reason: flags.text("reason") ?? "" });
  const columns = [{ title: "EPOCH", text: ({ epoch }: typeof answer) => String(epoch) }];
  out.document(wholeJson(LeadershipServiceRaiseStoreEpochResponseSchema, answer), { columns, rows: [answer] });
};
