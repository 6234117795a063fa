/** Verbs about the cache of a resolver. */
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
import type { VerbFunction } from "../table/verb.ts";

export const cacheStats: VerbFunction = async ({ out, client }) => {
  showStats(out, await client().call(ResolverService.method.cacheStats, {}));
};

/** The statistics, and in a sentence how far the cache is behind its upstream. */
export const cacheLag: VerbFunction = async ({ out, client }) => {
  const said = await client().call(ResolverService.method.cacheStats, {});
  if (!out.isMachine) out.note(lagText(said));
  showStats(out, said);
};

function lagText({ upstream, lag }: CacheStatsResponse): string {
  const lagMs = lag && Math.round(durationMs(lag));
  const behind = lagMs === undefined ? "it has never held all that it follows" : `what it follows is ${durationText(lagMs)} behind`;
  if (upstream === "") return `this resolver reaches none of its upstreams, and ${behind}; GET /readyz at its HTTP listener says why`;
  return `this resolver reads ${upstream}, and ${behind}`;
}

function showStats(out: Parameters<VerbFunction>[0]["out"], said: CacheStatsResponse): void {
  const json = wholeJson(CacheStatsResponseSchema, said);
  const rows = Object.entries(json).map(([name, value]) => ({ name, value: textOf(value) }));
  out.document(json, {
    columns: [
      { title: "FIELD", stored: ({ name }) => name },
      { title: "VALUE", stored: ({ value }) => value },
    ],
    rows,
  });
}

export const resync: VerbFunction = async ({ args, out, client }) => {
  const said = await client().call(ResolverService.method.resync, { namespaces: [...args] });
  const none = "nothing that this resolver follows is there, so nothing was fetched again; what it fetched by name is asked for anew";
  tell(out, said.entries === 0n ? none : `${entries(said, "was", "were")} fetched again`, wholeJson(ResyncResponseSchema, said));
};

export const prewarm: VerbFunction = async ({ args, out, client }) => {
  const said = await client().call(ResolverService.method.prewarm, { namespaces: [...args] });
  tell(out, `${entries(said, "is", "are")} followed there`, wholeJson(PrewarmResponseSchema, said));
};

export const evict: VerbFunction = async ({ args, out, client }) => {
  const said = await client().call(ResolverService.method.evict, { namespaces: [...args] });
  tell(out, `${entries(said, "was", "were")} let go`, wholeJson(EvictResponseSchema, said));
};

function entries(said: { readonly entries: bigint }, one: string, many: string): string {
  return counted(Number(said.entries), `entry ${one}`, `entries ${many}`);
}

function tell(out: Parameters<VerbFunction>[0]["out"], text: string, json: ReturnType<typeof wholeJson>): void {
  if (out.isMachine) out.json(json);
  else out.note(text);
}

/** `digest=2,gap=0` for the counts by reason. */
function textOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .map(([name, count]) => `${name}=${String(count)}`)
    .join(",");
}
