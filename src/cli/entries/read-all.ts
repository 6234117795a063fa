/** Every entry a filter matches, page by page. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Entry } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type CatalogQueryRequestSchema, DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Client } from "../../client/client.ts";

const PAGE_SIZE = 1000;

/** Reads all pages, as large as a server gives them. */
export async function readAll(client: Client, filter: MessageInitShape<typeof CatalogQueryRequestSchema>): Promise<readonly Entry[]> {
  const entries: Entry[] = [];
  let pageToken = "";
  do {
    const page = await client.call(DiscoveryService.method.catalogQuery, { ...filter, limit: PAGE_SIZE, pageToken });
    entries.push(...page.items);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return entries;
}
