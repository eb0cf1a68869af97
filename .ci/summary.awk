# Reads `go test -v`: passes on packages, failures with their output, and repeats every skip at the end,
# so that nobody overlooks one. Counts the tests. The exit status stays that of go test (pipefail).
/^=== (RUN|PAUSE|CONT|NAME)/ { next }
/^ *--- PASS/ { passed++; buffered = ""; next }
/^ *--- SKIP/ { skipped++; skip = skip "  " $0 "\n" buffered; buffered = ""; next }
/^ *--- FAIL/ { failed++; print buffered $0; buffered = ""; next }
/^(ok|FAIL|\?|panic|---|exit)/ { if ($1 != "ok" && $1 != "?") printf "%s", buffered; print; buffered = ""; fflush(); next }
/^PASS$/ { next }
{ buffered = buffered $0 "\n"; if (length(buffered) > 200000) buffered = substr(buffered, 100000) }
END {
  printf "%s", buffered
  if (skip != "") printf "\nSKIPPED, each with its reason and remedy:\n%s", skip
  printf "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped
}
