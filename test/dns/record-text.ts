/** What the tests of DNS share: records as people read them. */
import { RECORDS, type RecordOf, type RecordType } from "../../src/dns/records.ts";

/** A record as a line of a zone file. */
export function recordText<T extends RecordType>(record: RecordOf<T>): string {
  return `${record.name}. ${record.ttlSeconds} IN ${record.type} ${RECORDS[record.type].text(record.data)}`;
}
