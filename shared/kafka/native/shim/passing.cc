// The context of an event that is passed on undecoded. consumer/enrich.ts describes its members; both must give the same JSON.
#include "shim/passing.h"

#include <openssl/sha.h>

#include <charconv>
#include <cstddef>

namespace NodeKafka {

namespace {

// A JSON string of printable ASCII.
void AppendString(Text text, std::string* to) {
  to->push_back('"');
  const char* end = text.at + text.length;
  const char* written = text.at;
  for (const char* at = text.at; at < end; at++) {
    if (*at != '"' && *at != '\\') continue;
    to->append(written, at - written).push_back('\\');
    written = at;
  }
  to->append(written, end - written).push_back('"');
}

constexpr size_t kFingerprintBytes = 16;

// As `fingerprint` in consumer/enrich.ts.
void AppendFingerprint(const PassedEvent& event, std::string* to) {
  // The event loop is the only caller.
  static std::string framed;
  framed.assign(1, '[');
  AppendString(event.type, &framed);
  framed.push_back(',');
  AppendString(event.source, &framed);
  framed.push_back(',');
  if (event.subject.at == NULL)
    framed += "null";
  else
    AppendString(event.subject, &framed);
  framed += event.data.at == NULL ? ",true]" : ",false]";
  unsigned char digest[SHA256_DIGEST_LENGTH];
  // Not the EVP interface, which takes as long as the hash to look up its algorithm.
  SHA256_CTX hash;
  SHA256_Init(&hash);
  SHA256_Update(&hash, framed.data(), framed.size());
  if (event.data.length > 0) SHA256_Update(&hash, event.data.at, event.data.length);
  SHA256_Final(digest, &hash);
  static const char kDigits[] = "0123456789abcdef";
  for (size_t index = 0; index < kFingerprintBytes; index++) {
    to->push_back(kDigits[digest[index] >> 4]);
    to->push_back(kDigits[digest[index] & 15]);
  }
}

constexpr size_t kShortestTime = sizeof "0000-00-00T00:00:00Z" - 1;
constexpr ptrdiff_t kOffset = sizeof "00:00" - 1;

// ms since the epoch of a plain time (RFC 3339); 0 for what is none. Like Date.parse, it drops digits after the third of a fraction.
int64_t TimeOf(Text text) {
  if (text.length < kShortestTime) return 0;
  const char* at = text.at;
  const char* end = text.at + text.length;
  auto number = [&at](size_t digits) {
    int64_t value = 0;
    for (; digits > 0; digits--) value = value * 10 + (*at++ - '0');
    at++;
    return value;
  };
  int64_t year = number(4), month = number(2), day = number(2), hour = number(2), minute = number(2), second = number(2);
  // Days of the civil calendar: years that begin in March, in cycles of 400.
  int64_t shifted = month <= 2 ? year - 1 : year;
  int64_t cycle = (shifted >= 0 ? shifted : shifted - 399) / 400;
  int64_t of_cycle = shifted - cycle * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  int64_t days = cycle * 146097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719468;
  int64_t ms = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000;
  // `at` is behind the character that follows the seconds.
  if (at[-1] == '.') {
    for (int64_t unit = 100; at < end && *at >= '0' && *at <= '9'; at++, unit /= 10) ms += unit * (*at - '0');
    at++;
  }
  if (end - at < kOffset) return ms;
  int64_t sign = at[-1] == '-' ? -1 : 1;
  int64_t hours = number(2), minutes = number(2);
  return ms - sign * (hours * 60 + minutes) * 60000;
}

}  // namespace

void AppendNumber(int64_t number, std::string* to) {
  char digits[20];
  to->append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
}

void AppendContext(const PassedEvent& event, std::string* to) {
  *to += ",\"fingerprint\":\"";
  AppendFingerprint(event, to);
  to->push_back('"');
  if (event.received_at >= 0) {
    *to += ",\"receivedAtMs\":";
    AppendNumber(event.received_at, to);
  }
  if (event.time.at != NULL) {
    *to += ",\"latenessMs\":";
    AppendNumber((event.received_at >= 0 ? event.received_at : event.written_at) - TimeOf(event.time), to);
  }
}

}  // namespace NodeKafka
