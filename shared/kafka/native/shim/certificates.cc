// Renews a client's certificates while it runs: shim/tls-context.c. shared/kafka/security.ts is the other side.
#include <nan.h>

#include <string>

#include "librdkafka/src/rdkafka.h"
#include "shim/clients.h"
#include "src/connection.h"

extern "C" int kafkatrace_renew_certificates(rd_kafka_t* rk, const char* authorities, const char* certificate,
                                             const char* key, const char* key_password, char* reason, size_t size);

namespace NodeKafka {

// Has access to a client's connection and its lock.
class Certificates {
 public:
  static NAN_METHOD(Renew);
};

// renew(client, authorities, certificate, key, password): why it has failed; undefined when it has not
NAN_METHOD(Certificates::Renew) {
  Connection* client = ClientOf<Connection>(info[0]);
  if (client == NULL) return Nan::ThrowTypeError("a client is needed");
  constexpr int kTexts = 4;
  std::string texts[kTexts];
  const char* given[kTexts];
  for (int index = 0; index < kTexts; index++) {
    v8::Local<v8::Value> value = info[index + 1];
    given[index] = NULL;
    if (value->IsUndefined()) continue;
    if (!value->IsString()) return Nan::ThrowTypeError("a string or undefined is needed");
    Nan::Utf8String text(value);
    texts[index].assign(*text, text.length());
    given[index] = texts[index].c_str();
  }
  char reason[512] = "the client is not connected";
  TryReadLock lock(client->m_connection_lock);
  if (lock && client->IsConnected() &&
      kafkatrace_renew_certificates(client->m_client->c_ptr(), given[0], given[1], given[2], given[3], reason,
                                    sizeof(reason)) == 0)
    return;
  info.GetReturnValue().Set(Nan::New<v8::String>(reason).ToLocalChecked());
}

void ExportCertificates(v8::Local<v8::Object> exports) {
  v8::Local<v8::Object> certificates = Nan::New<v8::Object>();
  Nan::SetMethod(certificates, "renew", Certificates::Renew);
  Nan::Set(exports, Nan::New("certificates").ToLocalChecked(), certificates);
}

}  // namespace NodeKafka
