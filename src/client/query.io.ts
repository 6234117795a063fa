/** `query`: all entries of a filter, page by page. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Entry } from "../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  DiscoveryService,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type CallOptions, type ClientCalls, checkCallOptions } from "./calls.ts";

/** `limit` is the number of entries of a page. */
export type QueryRequest = Omit<MessageInitShape<typeof CatalogQueryRequestSchema>, "pageToken" | "$typeName">;

const PAGE_LIMIT = 1000;

/**
 * Iterates over the entries in the order of their keys. Each iteration asks anew, a page at a time as it is read. An entry that was there during the whole iteration
 * is told once; one that comes or goes meanwhile may be told or not. Throws a `RequestError`.
 */
export class Query implements AsyncIterable<Entry> {
  readonly #client: ClientCalls;
  readonly #request: QueryRequest;
  readonly #options: CallOptions;

  /** The options are those of each page. Throws a TypeError or RangeError that names the one which is wrong. */
  constructor(client: ClientCalls, request: QueryRequest, options: CallOptions = {}) {
    checkCallOptions("query", options);
    this.#client = client;
    this.#request = request;
    this.#options = options;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Entry> {
    for await (const { items } of this.pages()) yield* items;
  }

  /** The pages, with what the server said about each: age, source, node. */
  async *pages(): AsyncIterable<CatalogQueryResponse> {
    let pageToken = "";
    do {
      const request = { limit: PAGE_LIMIT, ...this.#request, pageToken };
      const page = await this.#client.call(DiscoveryService.method.catalogQuery, request, this.#options);
      yield page;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }
}
