/** Verbs about the cache of a resolver. */
import {
  CacheStatsResponseSchema,
  EvictResponseSchema,
  PrewarmResponseSchema,
  ResolverService,
  ResyncResponseSchema,
} from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import { wholeJson } from "../messages.ts";
import type { Verb } from "../table/verb.ts";

export const cacheStats: Verb = async ({ out, client }) => {
  const json = wholeJson(CacheStatsResponseSchema, await client().call(ResolverService.method.cacheStats, {}));
  const rows = Object.entries(json).map(([name, value]) => ({ name, value: textOf(value) }));
  out.document(json, {
    columns: [
      { title: "FIELD", stored: ({ name }) => name },
      { title: "VALUE", stored: ({ value }) => value },
    ],
    rows,
  });
};

export const resync: Verb = async ({ args, out, client }) => {
  const said = await client().call(ResolverService.method.resync, { namespaces: [...args] });
  tell(out, `${said.entries} entries were fetched again`, wholeJson(ResyncResponseSchema, said));
};

export const prewarm: Verb = async ({ args, out, client }) => {
  const said = await client().call(ResolverService.method.prewarm, { namespaces: [...args] });
  tell(out, `${said.entries} entries are followed there`, wholeJson(PrewarmResponseSchema, said));
};

export const evict: Verb = async ({ args, out, client }) => {
  const said = await client().call(ResolverService.method.evict, { namespaces: [...args] });
  tell(out, `${said.entries} entries were let go`, wholeJson(EvictResponseSchema, said));
};

function tell(out: Parameters<Verb>[0]["out"], text: string, json: ReturnType<typeof wholeJson>): void {
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
