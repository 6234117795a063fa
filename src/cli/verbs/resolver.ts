/** Verbs that show and control a resolver's cache. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type CacheStatsResponse,
  CacheStatsResponseSchema,
  EvictResponseSchema,
  PrewarmResponseSchema,
  ResolverService,
  ResyncResponseSchema,
} from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import { durationText } from "../../lib/duration.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { wholeJson } from "../messages.ts";
import { snakeCase } from "../output.ts";
import type { VerbFunction } from "../table/verb.ts";

export const cacheStats: VerbFunction = async ({ out, client }) => {
  showStats(out, await client().call(ResolverService.method.cacheStats, {}));
};

/** Prints the cache's lag as a sentence, followed by the statistics. */
export const cacheLag: VerbFunction = async ({ out, client }) => {
  const answer = await client().call(ResolverService.method.cacheStats, {});
  if (!out.isMachine) out.note(lagText(answer));
  showStats(out, answer);
};

function lagText({ upstream, lag }: CacheStatsResponse): string {
  const lagMs = lag && Math.round(durationMs(lag));
  const behind = lagMs === undefined ? "its cache has never been complete" : `its cache is ${durationText(lagMs)} behind`;
  if (upstream === "")
    return `this resolver cannot reach any of its upstreams, and ${behind}; GET /readyz on its HTTP listener shows the reason`;
  return `this resolver reads from ${upstream}, and ${behind}`;
}

function showStats(out: Parameters<VerbFunction>[0]["out"], answer: CacheStatsResponse): void {
  const json = wholeJson(CacheStatsResponseSchema, answer);
  const rows = Object.entries(json).map(([name, value]) => ({ name: snakeCase(name), value: textOf(value) }));
  out.document(json, {
    columns: [
      { title: "FIELD", text: ({ name }) => name },
      { title: "VALUE", text: ({ value }) => value },
    ],
    rows,
  });
}

export const resync: VerbFunction = async ({ args, out, client }) => {
  const answer = await client().call(ResolverService.method.resync, { namespaces: [...args] });
  const none =
    args.length === 0
      ? "this resolver does not follow any namespace with entries; names that it has fetched will be fetched again on their next lookup"
      : `no followed namespace with entries matches ${args.join(" or ")}; names that were fetched from ${args.length === 1 ? "it" : "them"} will be fetched again on their next lookup`;
  print(out, answer.entries === 0n ? none : `${entries(answer, "was", "were")} fetched again`, wholeJson(ResyncResponseSchema, answer));
};

export const prewarm: VerbFunction = async ({ args, out, client }) => {
  const answer = await client().call(ResolverService.method.prewarm, { namespaces: [...args] });
  print(out, `${entries(answer, "is", "are")} cached in these namespaces`, wholeJson(PrewarmResponseSchema, answer));
};

export const evict: VerbFunction = async ({ args, out, client }) => {
  const answer = await client().call(ResolverService.method.evict, { namespaces: [...args] });
  print(out, `${entries(answer, "was", "were")} evicted`, wholeJson(EvictResponseSchema, answer));
};

function entries(answer: { readonly entries: bigint }, one: string, many: string): string {
  return counted(Number(answer.entries), `entry ${one}`, `entries ${many}`);
}

function print(out: Parameters<VerbFunction>[0]["out"], text: string, json: ReturnType<typeof wholeJson>): void {
  if (out.isMachine) out.json(json);
  else out.note(text);
}

/** Formats counts by reason, such as `digest=2,gap=0`. */
function textOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .map(([name, count]) => `${name}=${String(count)}`)
    .join(",");
}
