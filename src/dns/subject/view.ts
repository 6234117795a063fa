/** The class of viewers that a question belongs to. All who have a view get the same answers. */
export interface DnsView {
  /** Distinguishes the views of a gateway. At most 255. */
  readonly index: number;
  /** Distinguishes views that have had one index, one after the other. Absent: 0. */
  readonly generation?: number;
  /** Where the askers are; this zone is a place, not one of DNS. Undefined without a place: then no entry is nearer than another. */
  readonly locality: { readonly region: string; readonly zone: string } | undefined;
  /** Most records of a set; undefined for all of them. */
  readonly answerLimit: number | undefined;
}

/** The view of every asker where none is set. */
export const DEFAULT_VIEW: DnsView = { index: 0, locality: undefined, answerLimit: undefined };
