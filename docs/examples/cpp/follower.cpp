// The follower of ../follower.py in C++: same topics, parameters and decisions.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <geometry_msgs/msg/twist.hpp>
#if __has_include(<message_filters/subscriber.hpp>)
#include <message_filters/subscriber.hpp>
#include <message_filters/time_synchronizer.hpp>
#else  // Humble
#include <message_filters/subscriber.h>
#include <message_filters/time_synchronizer.h>
#endif
#include <rclcpp/rclcpp.hpp>
#include <sensor_msgs/msg/image.hpp>
#include <vision_msgs/msg/detection2_d_array.hpp>
#include <vision_msgs/msg/label_info.hpp>

using geometry_msgs::msg::Twist;
using sensor_msgs::msg::Image;
using vision_msgs::msg::Detection2DArray;
using vision_msgs::msg::LabelInfo;

class Follower : public rclcpp::Node
{
public:
  Follower() : Node("follower"), pairs_(10)
  {
    target_ = declare_parameter("target", "pedestrian");
    drivable_ = declare_parameter("drivable", "road");
    min_score_ = declare_parameter("min_score", 0.5);
    wanted_height_ = declare_parameter("wanted_height", 0.6);  // of the image's height, where the follower stops
    max_speed_mps_ = declare_parameter("max_speed_mps", 1.0);
    turn_gain_ = declare_parameter("turn_gain", 0.8);  // rad/s for an object at the edge of the image
    max_age_s_ = declare_parameter("max_age_s", 0.4);
    const auto latched = rclcpp::QoS(1).transient_local();
    box_labels_ = create_subscription<LabelInfo>(
      "detections/label_info", latched, [this](LabelInfo::ConstSharedPtr message) {read(*message, box_names_);});
    mask_labels_ = create_subscription<LabelInfo>(
      "segmentation/label_info", latched, [this](LabelInfo::ConstSharedPtr message) {read(*message, mask_names_);});
    publisher_ = create_publisher<Twist>("cmd_vel", 1);
    boxes_.subscribe(this, "detections");
    masks_.subscribe(this, "segmentation");
    // Boxes and mask of one image have equal stamps.
    pairs_.connectInput(boxes_, masks_);
    pairs_.registerCallback(&Follower::on_pair, this);
    timer_ = create_wall_timer(
      std::chrono::milliseconds(100), [this]() {if (is_stale()) {publisher_->publish(Twist());}});
  }

private:
  using Names = std::map<int, std::string>;

  static void read(const LabelInfo & message, Names & names)
  {
    names.clear();
    for (const auto & one : message.class_map) {names[one.class_id] = one.class_name;}
  }

  void on_pair(const Detection2DArray::ConstSharedPtr & boxes, const Image::ConstSharedPtr & mask)
  {
    newest_ns_ = rclcpp::Time(mask->header.stamp).nanoseconds();
    publisher_->publish(is_stale() ? Twist() : follow(*boxes, *mask));
  }

  Twist follow(const Detection2DArray & boxes, const Image & mask) const
  {
    Twist command;
    double largest = 0.0;
    for (const auto & box : boxes.detections) {
      if (box.results.empty() || box.results[0].hypothesis.score < min_score_) {continue;}
      const double area = box.bbox.size_x * box.bbox.size_y;
      if (name_of(box.results[0].hypothesis.class_id) != target_ || area <= largest) {continue;}
      largest = area;
      const double x = box.bbox.center.position.x, feet = box.bbox.center.position.y + box.bbox.size_y / 2;
      command.angular.z = -turn_gain_ * (2 * x / mask.width - 1);
      const double share = std::max(0.0, 1 - box.bbox.size_y / mask.height / wanted_height_);
      command.linear.x = is_free_below(static_cast<int>(x), static_cast<int>(feet), mask) ? max_speed_mps_ * share : 0;
    }
    return command;
  }

  // A class id is a number as text or, with `detection_class_id: name`, the name itself.
  std::string name_of(const std::string & class_id) const
  {
    for (const auto & one : box_names_) {
      if (std::to_string(one.first) == class_id) {return one.second;}
    }
    return class_id;
  }

  // Returns whether the strip of the mask from the object's feet to the lower edge is drivable.
  bool is_free_below(int column, int feet, const Image & mask) const
  {
    const int half = static_cast<int>(mask.width) / 20;
    int free = 0, all = 0;
    for (int y = std::max(feet, 0); y < static_cast<int>(mask.height); ++y) {
      for (int x = std::max(column - half, 0); x < std::min(column + half, static_cast<int>(mask.width)); ++x) {
        const auto name = mask_names_.find(mask.data[static_cast<std::size_t>(y) * mask.step + x]);
        free += name != mask_names_.end() && name->second == drivable_;
        ++all;
      }
    }
    return free > 0.9 * all;
  }

  bool is_stale()
  {
    const double age_s = static_cast<double>(now().nanoseconds() - newest_ns_) / 1e9;
    return !(age_s >= -0.1 && age_s <= max_age_s_);
  }

  std::string target_, drivable_;
  double min_score_, wanted_height_, max_speed_mps_, turn_gain_, max_age_s_;
  std::int64_t newest_ns_ = 0;
  Names box_names_, mask_names_;
  message_filters::Subscriber<Detection2DArray> boxes_;
  message_filters::Subscriber<Image> masks_;
  message_filters::TimeSynchronizer<Detection2DArray, Image> pairs_;
  rclcpp::Subscription<LabelInfo>::SharedPtr box_labels_, mask_labels_;
  rclcpp::Publisher<Twist>::SharedPtr publisher_;
  rclcpp::TimerBase::SharedPtr timer_;
};

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  rclcpp::spin(std::make_shared<Follower>());
  rclcpp::shutdown();
  return 0;
}
