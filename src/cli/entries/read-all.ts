/** Every entry that a filter matches. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type CatalogQueryRequestSchema, DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Client } from "../../client/client.ts";
import { MAX_PAGE, pagesOf } from "../pages.ts";

/** Reads all pages, as large as a server gives them. */
export async function readAll(client: Client, filter: MessageInitShape<typeof CatalogQueryRequestSchema>): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  const read = (pageToken: string) => client.call(DiscoveryService.method.catalogQuery, { ...filter, limit: MAX_PAGE, pageToken });
  for await (const { items } of pagesOf(read)) entries.push(...items);
  return entries;
}
